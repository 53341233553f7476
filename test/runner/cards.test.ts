/** Cards of a device: whoever has one has it alone, and it comes back however a task ends. No card is needed for that. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { type Mesh, parseMesh } from "../../src/device/mesh.ts"
import { loadExperiment } from "../../src/dsl/load.ts"
import { plan } from "../../src/dsl/plan.ts"
import { cardNames, leases, tasksOnCards } from "../../src/runner/leases.ts"
import { warehouseLookup } from "../../src/runner/lookup.ts"
import { alive, ends, ledgerOf } from "../support/cardWorker.ts"
import { runLines, runPlan } from "../support/counted.ts"
import { freshFolder } from "../support/folders.ts"

const fresh = freshFolder("cards")
const projectRoot = join(import.meta.dirname, "..", "..")
const worker = fileURLToPath(new URL("../support/cardWorker.ts", import.meta.url))
const pipeline = JSON.stringify(join(projectRoot, "test", "support", "measuring.ts"))

/** One task a size, on `xla:cuda`. */
const planned = Effect.fnUntraced(function* (warehouse: string, sizes: ReadonlyArray<number>) {
  const file = join(warehouse, "sizes.yaml")
  writeFileSync(file, `name: sizes\npipeline: ${pipeline}\nsweep: { grid: { measure.size: [${sizes.join(", ")}] } }\n`)
  const loaded = yield* loadExperiment(file, { projectRoot })
  return yield* plan(loaded, warehouseLookup(warehouse, loaded.name), { provider: "xla:cuda" })
})

const onCards = (warehouse: string, sizes: ReadonlyArray<number>, cards: number, mesh?: Mesh) =>
  Effect.flatMap(planned(warehouse, sizes), (tasks) => runPlan(warehouse, tasks, { cards, mesh, cores: 8, worker }))

/** How many attempts there were at most at once, as the run journal tells it; no card may have been in two of them. */
const held = (warehouse: string) => {
  const open = new Map<string, ReadonlyArray<string>>()
  let most = 0
  const lines = [...runLines(warehouse, "attempt"), ...runLines(warehouse, "attempt-end")]
  const at = (line: Readonly<Record<string, unknown>>) => String(line["startedAt"] ?? line["endedAt"])
  // by time, where an end goes before a beginning: what was given back may be taken at once
  const ordered = lines.sort((a, b) => (at(a) < at(b) ? -1 : at(a) > at(b) ? 1 : a["t"] === "attempt-end" ? -1 : 1))
  for (const line of ordered) {
    const attempt = String(line["attempt"])
    if (line["t"] === "attempt") open.set(attempt, line["cards"] as ReadonlyArray<string>)
    else open.delete(attempt)
    const cards = [...open.values()].flat()
    assert.strictEqual(new Set(cards).size, cards.length, `one card twice: ${cards.join()}`)
    most = Math.max(most, open.size)
  }
  assert.strictEqual(open.size, 0)
  return most
}

const asked = (warehouse: string, attempt: string) =>
  JSON.parse(readFileSync(join(warehouse, "attempts", attempt, "task.json"), "utf8"))

describe("leases", () => {
  it("are the lowest cards that are free, one a task or as many as its mesh has", () => {
    const single = leases(3, undefined)
    assert.deepStrictEqual([single.take(), single.take()], [[0], [1]])
    single.giveBack([0])
    assert.deepStrictEqual([single.take(), single.take(), single.take()], [[0], [2], []])
    const pairs = leases(5, parseMesh(2, undefined))
    const first = pairs.take()
    assert.deepStrictEqual(
      [first, pairs.take()],
      [
        [0, 1],
        [2, 3]
      ]
    )
    pairs.giveBack(first)
    assert.deepStrictEqual(pairs.take(), [0, 1])
  })

  it("fit as many tasks as cards, meshes whole; too few cards are one task, which says so itself", () => {
    const [two, four] = [parseMesh(2, undefined), parseMesh(undefined, "data=2,model=2")]
    assert.deepStrictEqual(
      [
        tasksOnCards(4, undefined),
        tasksOnCards(4, two),
        tasksOnCards(5, two),
        tasksOnCards(7, four),
        tasksOnCards(2, four)
      ],
      [4, 2, 2, 1, 1]
    )
  })

  it("are named as CUDA counts them, within those that are visible here", () => {
    assert.deepStrictEqual(
      [cardNames([1], undefined), cardNames([1], "2, 5"), cardNames([0], "GPU-8932f937"), cardNames([0, 2], "4,5,6")],
      [["1"], ["5"], ["GPU-8932f937"], ["4", "6"]]
    )
  })
})

describe("tasks on cards", () => {
  it.live("have one each that no other process has; it comes back after success, failure, a kill, a silent end", () =>
    Effect.gen(function* () {
      const warehouse = fresh()
      const sizes = [1, 2, 3, ends.fails, ends.killed, ends.silent, ends.fails + 1, ends.killed + 1, 4]
      const { summary } = yield* onCards(warehouse, sizes, 2)
      // were a card lost with any of these five, the others would wait for ever
      assert.deepInclude(summary, { ran: 4, failed: 5, skipped: 0 })
      const ledger = ledgerOf(warehouse)
      assert.lengthOf(ledger, 9)
      assert.deepStrictEqual(
        ledger.flatMap(({ clashes }) => clashes),
        []
      )
      assert.deepStrictEqual([...new Set(ledger.flatMap(({ cards }) => cards))].sort(), ["0", "1"])
      for (const { attempt, cards } of ledger) {
        assert.lengthOf(cards, 1)
        assert.deepStrictEqual(asked(warehouse, attempt).cards, cards)
      }
      assert.strictEqual(held(warehouse), 2)
      const tags = runLines(warehouse, "attempt-end").map((line) => (line["error"] as { tag: string } | undefined)?.tag)
      assert.sameMembers(tags, [
        undefined,
        undefined,
        undefined,
        undefined,
        "Fell",
        "Fell",
        "Killed",
        "Killed",
        "WorkerLost"
      ])
    })
  )

  it.live("keep their card when they are tried again with less of a batch", () =>
    Effect.gen(function* () {
      const warehouse = fresh()
      const { summary } = yield* onCards(warehouse, [1, ends.tooLarge, 2, 3], 2)
      assert.deepInclude(summary, { ran: 4, failed: 0 })
      const [whole, half] = ledgerOf(warehouse).filter(
        ({ attempt }) => asked(warehouse, attempt).params.size === ends.tooLarge
      )
      assert.deepStrictEqual(half?.cards, whole?.cards)
      assert.strictEqual(asked(warehouse, half!.attempt).batchShare, 0.5)
      assert.deepStrictEqual(
        ledgerOf(warehouse).flatMap(({ clashes }) => clashes),
        []
      )
      assert.strictEqual(held(warehouse), 2)
    })
  )

  it.live("have as many as their mesh has devices: two tasks at once, in pairs, on four cards", () =>
    Effect.gen(function* () {
      const warehouse = fresh()
      const { summary } = yield* onCards(warehouse, [1, 2, ends.fails, 3, 4], 4, parseMesh(2, undefined))
      assert.deepInclude(summary, { ran: 4, failed: 1 })
      const pairs = ledgerOf(warehouse).map(({ cards }) => cards.join())
      assert.deepStrictEqual([...new Set(pairs)].sort(), ["0,1", "2,3"])
      assert.deepStrictEqual(
        ledgerOf(warehouse).flatMap(({ clashes }) => clashes),
        []
      )
      assert.strictEqual(held(warehouse), 2)
      assert.strictEqual(asked(warehouse, ledgerOf(warehouse)[0]!.attempt).mesh, "data=2")
    })
  )

  it.live("whose journal cannot be read any more have ended before their card is another's", () =>
    Effect.gen(function* () {
      const warehouse = fresh()
      const tasks = yield* planned(warehouse, [ends.hangs])
      const run = yield* Effect.forkChild(runPlan(warehouse, tasks, { cards: 1, cores: 8, worker }))
      while (ledgerOf(warehouse).length < 1) yield* Effect.sleep(20)
      const { attempt, pid } = ledgerOf(warehouse)[0]!
      const journal = join(warehouse, "attempts", attempt, "journal.ndjson")
      while (!existsSync(journal)) yield* Effect.sleep(20)
      rmSync(journal)
      mkdirSync(journal)
      // whether the index can do without it or not
      yield* Fiber.await(run)
      assert.isFalse(alive(pid))
      // what broke off has an end all the same, which says why
      const [end, ...more] = runLines(warehouse, "attempt-end")
      assert.deepStrictEqual([end?.["attempt"], end?.["state"], more.length], [attempt, "failed", 0])
      assert.match(JSON.stringify(end?.["error"]), /a bug in the runner.*EISDIR/)
    })
  )

  it.live("that hang are killed when the grace of an interrupted run is over, and nobody is left on a card", () =>
    Effect.gen(function* () {
      const warehouse = fresh()
      const tasks = yield* planned(warehouse, [ends.hangs, ends.hangs + 1, 1])
      const run = yield* Effect.forkChild(runPlan(warehouse, tasks, { cards: 2, cores: 8, worker, graceMs: 100 }))
      while (ledgerOf(warehouse).length < 2) yield* Effect.sleep(20)
      yield* Fiber.interrupt(run)
      assert.deepStrictEqual(
        ledgerOf(warehouse).filter(({ pid }) => alive(pid)),
        []
      )
      assert.deepStrictEqual(
        runLines(warehouse, "attempt-end").map((line) => [line["state"], line["signal"]]),
        [
          ["killed", "SIGKILL"],
          ["killed", "SIGKILL"]
        ]
      )
      // the next run has them all again
      const { summary } = yield* onCards(warehouse, [1, 2, 3], 2)
      assert.deepInclude(summary, { ran: 3, failed: 0 })
      assert.deepStrictEqual(
        ledgerOf(warehouse).flatMap(({ clashes }) => clashes),
        []
      )
    })
  )
})
