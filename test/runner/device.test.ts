import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { parseMesh } from "../../src/device/mesh.ts"
import { cpuPlugin, locatePlugin } from "../../src/device/xla/plugins.ts"
import { loadExperiment } from "../../src/dsl/load.ts"
import { plan } from "../../src/dsl/plan.ts"
import { readJournal } from "../../src/runner/journal.ts"
import { warehouseLookup } from "../../src/runner/lookup.ts"
import { cpuSlots, slotsOf } from "../../src/runner/supervisor.ts"
import { runLines, runPlan } from "../support/counted.ts"
import { freshFolder } from "../support/folders.ts"

const fresh = freshFolder("device")
const root = join(import.meta.dirname, "..", "..")

describe("from YAML to a device", () => {
  it.live("a stage gets the device of its numeric class, the journal says which; the next plan finds it done", () =>
    Effect.gen(function* () {
      const warehouse = fresh()
      const file = join(root, "test", "support", "measuring.yaml")
      const planned = Effect.gen(function* () {
        const loaded = yield* loadExperiment(file, { projectRoot: root })
        return yield* plan(loaded, warehouseLookup(warehouse, loaded.name))
      })
      const first = yield* planned
      assert.deepStrictEqual(
        first.tasks.map((task) => task.state),
        ["new"]
      )
      assert.strictEqual(cpuSlots(first, 4), 4)
      const { summary, events } = yield* runPlan(warehouse, first)
      assert.deepInclude(summary, { ran: 1, failed: 0 }, JSON.stringify(events))
      const [attempt = ""] = readdirSync(join(warehouse, "attempts"))
      const { lines } = readJournal(join(warehouse, "attempts", attempt, "journal.ndjson"))
      assert.strictEqual(lines[0]?.value["t"], "head")
      const device = lines.filter((line) => line.value["name"] === "device").map((line) => line.value["detail"])
      assert.lengthOf(device, 2)
      assert.deepInclude(device[1], { provider: "cpu", threads: 1, fallbackNodes: 0 })
      const asked = JSON.parse(readFileSync(join(warehouse, "attempts", attempt, "task.json"), "utf8"))
      assert.deepInclude(asked.class, { provider: "cpu", threads: 1 })
      const again = yield* planned
      assert.deepStrictEqual(
        again.tasks.map((task) => task.state),
        ["cached"]
      )
      assert.deepInclude((yield* runPlan(warehouse, again)).summary, { ran: 0, cached: 1 })
      // Planned with other code than what lies there when the worker starts: nothing is kept under a wrong digest.
      rmSync(join(warehouse, "realisations"), { recursive: true })
      const edited = again.tasks.map((task) => {
        const files = { ...task.code.files, "overtone/test/support/measuring.ts": "before" }
        return { ...task, code: { ...task.code, files, digest: "0123" } }
      })
      const refused = yield* runPlan(warehouse, { ...again, tasks: edited })
      const failed = refused.events.find((e) => e.type === "task" && e.state === "failed")
      assert.match(JSON.stringify(failed), /CodeChanged.*while the run was on [(]overtone.test.support.measuring.ts[)]/)
    })
  )

  it.live.skipIf("missing" in locatePlugin(cpuPlugin))(
    "a mesh reaches the worker and its journal, and no key: what four devices made is done for one",
    () =>
      Effect.gen(function* () {
        const warehouse = fresh()
        const planned = Effect.gen(function* () {
          const loaded = yield* loadExperiment(join(root, "test", "support", "measuring.yaml"), { projectRoot: root })
          return yield* plan(loaded, warehouseLookup(warehouse, loaded.name), { provider: "xla:cpu" })
        })
        const first = yield* planned
        const mesh = parseMesh(4, "data=2,model=2")
        const slots = [
          slotsOf(first, { mesh, cores: 4 }),
          slotsOf(first, { mesh, jobs: 3, cores: 4 }),
          slotsOf(first, { cores: 4 }),
          slotsOf(first, { jobs: 3, cores: 4 })
        ]
        assert.deepStrictEqual(slots, [1, 1, 4, 3])
        const onCards = {
          tasks: first.tasks.map((task) => ({ ...task, class: { ...task.class!, provider: "xla:cuda" } }))
        }
        const perCard = [{}, { cards: 4 }, { cards: 4, jobs: 2 }, { cards: 2, jobs: 9 }, { cards: 4, mesh }]
        assert.deepStrictEqual(
          perCard.map((options) => slotsOf(onCards, { ...options, cores: 16 })),
          [1, 4, 2, 2, 1]
        )
        const { summary, events } = yield* runPlan(warehouse, first, { mesh })
        assert.deepInclude(summary, { ran: 1, failed: 0 }, JSON.stringify(events))
        const [attempt = ""] = readdirSync(join(warehouse, "attempts"))
        const asked = JSON.parse(readFileSync(join(warehouse, "attempts", attempt, "task.json"), "utf8"))
        assert.strictEqual(asked.mesh, "data=2,model=2")
        const { lines } = readJournal(join(warehouse, "attempts", attempt, "journal.ndjson"))
        const device = lines.find((line) => line.value["name"] === "device")?.value["detail"]
        assert.include(JSON.stringify(device), '"mesh":"data=2,model=2"')
        assert.deepStrictEqual(
          (yield* planned).tasks.map((task) => task.state),
          ["cached"]
        )
      })
  )

  const measured = (warehouse: string, provider: string, set: string) =>
    Effect.gen(function* () {
      const file = join(root, "test", "support", "measuring.yaml")
      const loaded = yield* loadExperiment(file, { projectRoot: root, set: [set] })
      const planned = yield* plan(loaded, warehouseLookup(warehouse, loaded.name), { provider })
      const { events, summary } = yield* runPlan(warehouse, planned)
      const ids = readdirSync(join(warehouse, "attempts")).sort()
      const asked = ids.map((id) => JSON.parse(readFileSync(join(warehouse, "attempts", id, "task.json"), "utf8")))
      const shares = asked.map(({ batchShare }) => batchShare ?? 1)
      /** For each attempt whose checkpoint it goes on from, counted. */
      const resumes = asked.map((one) => ids.indexOf(one.resumes?.attempt))
      const linesOf = (id: string) => readJournal(join(warehouse, "attempts", id, "journal.ndjson")).lines
      /** What the event says that each attempt's device was given. */
      const noted = ids.map((id) => {
        const device = linesOf(id).find(({ value }) => value["name"] === "device")?.value["detail"]
        return (device as { readonly batchShare?: number } | undefined)?.batchShare
      })
      const left = ids.filter((id) => existsSync(join(warehouse, "attempts", id, "checkpoint")))
      const notices = events.flatMap((event) => (event.type === "notice" ? [event.message] : []))
      const failures = events.flatMap((event) => (event.type === "task" && event.failure ? [event.failure] : []))
      return { summary, shares, noted, resumes, left, notices, failures }
    })

  it.live.skipIf("missing" in locatePlugin(cpuPlugin))(
    "what does not fit a device's memory is tried again with half of the micro-batch, and the run says so",
    () =>
      Effect.gen(function* () {
        const { left, noted, notices, resumes, shares, summary } = yield* measured(
          fresh(),
          "xla:cpu",
          "measure.room=0.25"
        )
        assert.deepInclude(summary, { ran: 1, failed: 0 })
        assert.deepStrictEqual(shares, [1, 0.5, 0.25])
        // where SQL sees it: the attempt's event `device`
        assert.deepStrictEqual(noted, [undefined, 0.5, 0.25])
        assert.deepStrictEqual(resumes, [-1, 0, 1])
        assert.deepStrictEqual(left, [])
        assert.match(
          notices.join(),
          /measure [(]measure[)] ran out of .*1\/2 of the usual size,.*1\/4 of the usual size/
        )
      })
  )

  it.live.skipIf("missing" in locatePlugin(cpuPlugin))(
    "a device that is lost in mid-step is tried once more in a new process, from the checkpoint, and the run says so",
    () =>
      Effect.gen(function* () {
        const warehouse = fresh()
        const once = yield* measured(warehouse, "xla:cpu", "measure.lost=once")
        assert.deepInclude(once.summary, { ran: 1, failed: 0 })
        assert.deepStrictEqual([once.resumes, once.shares, once.left], [[-1, 0], [1, 1], []])
        assert.match(
          once.notices.join(),
          /measure [(]measure[)] lost its device.*in a new process.*CUDA_ERROR_LAUNCH_FAILED/
        )
        const pids = runLines(warehouse, "attempt").map((line) => line["pid"])
        assert.strictEqual(new Set(pids).size, 2)
        assert.deepStrictEqual(
          runLines(warehouse, "attempt-end").map((line) => [
            line["state"],
            (line["error"] as { readonly tag: string } | undefined)?.tag
          ]),
          [
            ["failed", "DeviceLost"],
            ["done", undefined]
          ]
        )
        // where the library ends the process at it, its last words say so
        const crash = yield* measured(fresh(), "xla:cpu", "measure.lost=crash")
        assert.deepInclude(crash.summary, { ran: 1, failed: 0 })
        assert.match(crash.notices.join(), /lost its device.*SIGABRT.*CUDA_ERROR_LAUNCH_FAILED/)
        const always = yield* measured(fresh(), "xla:cpu", "measure.lost=always")
        assert.deepInclude(always.summary, { ran: 0, failed: 1 })
        assert.deepStrictEqual(always.resumes, [-1, 0])
        assert.strictEqual(always.failures[0]?.tag, "DeviceLost")
      })
  )

  it.live(
    "on the CPU a device that is lost is a failed attempt with its cause; the next run goes on from the checkpoint",
    () =>
      Effect.gen(function* () {
        const warehouse = fresh()
        const first = yield* measured(warehouse, "cpu", "measure.lost=once")
        assert.deepInclude(first.summary, { ran: 0, failed: 1 })
        assert.strictEqual(first.failures[0]?.tag, "DeviceLost")
        assert.match(
          first.failures[0]!.message,
          /^The device was lost while program measure ran, .*: CUDA_ERROR_LAUNCH_FAILED\. The next run goes on from the last/
        )
        const second = yield* measured(warehouse, "cpu", "measure.lost=once")
        assert.deepInclude(second.summary, { ran: 1, failed: 0 })
        assert.deepStrictEqual([second.resumes, second.left], [[-1, 0], []])
      })
  )

  it.live("on the CPU, where bits are promised, it fails; and nothing is tried for ever", () =>
    Effect.gen(function* () {
      const cpu = yield* measured(fresh(), "cpu", "measure.room=0.25")
      assert.deepInclude(cpu.summary, { ran: 0, failed: 1 })
      assert.deepStrictEqual(cpu.shares, [1])
      assert.strictEqual(cpu.failures[0]?.tag, "OutOfMemory")
      assert.match(cpu.failures[0]!.message, /Not enough memory for program measure; use a smaller batch/)
      if ("missing" in locatePlugin(cpuPlugin)) return
      const never = yield* measured(fresh(), "xla:cpu", "measure.room=0")
      assert.deepStrictEqual(never.shares, [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64])
      assert.match(never.failures[0]!.message, /down to 1\/64 of the usual size.*rematerialise: true.*--mesh fsdp=N/)
    })
  )
})
