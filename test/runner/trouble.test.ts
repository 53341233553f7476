/** Full disks, an index that fails, checkpoints that are damaged. */
import { execFileSync } from "node:child_process"
import { mkdirSync, readdirSync, statSync, symlinkSync, truncateSync, unlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { afterAll } from "vitest"
import { DiskFull } from "../../src/artifact/FileFailure.ts"
import { beginCheckpoint, checkpointDir, commitCheckpoint, interruptedAttempts } from "../../src/runner/checkpoint.ts"
import type { RunEvent, TaskEvent } from "../../src/runner/events.ts"
import { Indexes } from "../../src/runner/Index.ts"
import { openJournal, readJournal } from "../../src/runner/journal.ts"
import { select } from "../../src/runner/selection.ts"
import { run } from "../../src/runner/supervisor.ts"
import { optionsOf, planOf, runLines, runPlan } from "../support/counted.ts"
import { hold } from "../support/counting.ts"
import { freshFolder } from "../support/folders.ts"

const fresh = freshFolder("trouble")

/** A disk of its own, where this machine lets us have one. */
const smallDisk = (bytes: number): string | undefined => {
  const dir = fresh()
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${bytes}`, "tmpfs", dir], { stdio: "ignore" })
  } catch {
    return undefined
  }
  afterAll(() => execFileSync("umount", ["-l", dir]))
  return dir
}
const disk = process.platform === "linux" ? smallDisk(256 * 1024) : undefined

describe("a full disk", () => {
  it.runIf(process.platform === "linux")("is a typed failure of the journal, which stays broken", () => {
    const path = join(fresh(), "journal.ndjson")
    symlinkSync("/dev/full", path)
    const journal = openJournal(path)
    journal.append({ t: "event" })
    assert.throws(() => journal.flush(), DiskFull)
    assert.throws(() => journal.append({ t: "event" }), /no space left/)
    journal.close()
  })

  it.live.skipIf(disk === undefined)(
    "fails a task with the remedy; with space again the run goes on, and nothing is lost",
    () =>
      Effect.gen(function* () {
        const root = disk!
        const { plan, wanted } = select(planOf({ numbers: { count: 50 } }), { only: "numbers" })
        const first = yield* runPlan(root, plan, { wanted })
        assert.deepInclude(first.summary, { ran: 1 })
        const ballast = join(root, "ballast")
        // Leave less than the checkpoints of the walk take.
        fill(ballast, 24 * 1024)
        const params = { numbers: { count: 50 }, walk: { steps: 400, eager: true }, other: { steps: 400, eager: true } }
        const second = yield* Effect.exit(runPlan(root, planOf(params)))
        if (second._tag === "Success") {
          const failed = second.value.events.find((e): e is TaskEvent => e.type === "task" && e.state === "failed")
          assert.strictEqual(failed?.failure?.tag, "DiskFull")
          assert.match(failed?.failure?.message ?? "", /free some space .* run the same command again/)
        } else {
          // The run's own journal met it first.
          assert.match(String(second.cause), /no space left/)
        }
        unlinkSync(ballast)
        const third = yield* runPlan(root, planOf({ ...params, walk: { steps: 40 }, other: { steps: 40 } }))
        assert.deepInclude(third.summary, { failed: 0, skipped: 0, cached: 1 })
      })
  )
})

/** Takes up a file system down to `left` bytes. */
const fill = (path: string, left: number): void => {
  for (let size = 256 * 1024; size >= 1024; size /= 2) {
    for (;;) {
      try {
        writeFileSync(path, Buffer.alloc(size), { flag: "a" })
      } catch {
        break
      }
    }
  }
  truncateSync(path, Math.max(0, statSync(path).size - left))
}

class Broken extends Error {
  readonly _tag = "WarehouseError"
}

describe("an index that fails", () => {
  it.live("ends the run with its error, workers stopped and everything recorded; the next run goes on", () =>
    Effect.gen(function* () {
      const root = fresh()
      const params = { walk: { steps: 200, eager: true }, other: { steps: 200, eager: true } }
      hold(root, 5)
      const events: Array<RunEvent> = []
      // when the walk is under way
      const walking = () => events.some((e) => e.type === "progress" && e.step >= 5)
      const index = {
        ingest: () => (walking() ? Effect.fail(new Broken("live.duckdb: damaged")) : Effect.void),
        publish: Effect.void
      }
      const error = yield* run(planOf(params), optionsOf(root, { onEvent: (e) => events.push(e) })).pipe(
        Effect.provideService(Indexes, { open: () => Effect.succeed(index) }),
        Effect.flip
      )
      assert.strictEqual(error.message, "live.duckdb: damaged")
      const pid = events.findLast((e): e is TaskEvent => e.type === "task" && e.state === "started")?.pid ?? 0
      assert.throws(() => process.kill(pid, 0))
      assert.deepInclude(runLines(root, "end").at(-1), { state: "failed" })
      assert.deepInclude(runLines(root, "attempt-end").at(-1), { state: "killed" })
    })
  )
})

describe("checkpoints", () => {
  const asked = (root: string, attempt: string): string => {
    const dir = join(root, "attempts", attempt)
    mkdirSync(dir, { recursive: true })
    writeFileSync(join(dir, "task.json"), JSON.stringify({ contentKey: "c", codeDigest: "d" }))
    return dir
  }
  const write = async (dir: string, steps: ReadonlyArray<number>): Promise<void> => {
    const journal = openJournal(join(dir, "journal.ndjson"))
    for (const step of steps) {
      journal.append({ t: "metrics", step, values: {} })
      writeFileSync(join(await beginCheckpoint(dir, step), "weights"), `weights ${step}`)
      await commitCheckpoint(dir, journal, step, { random: step })
    }
    journal.close()
  }

  it.live("of the furthest attempt are taken up; a damaged one gives way to the next best", () =>
    Effect.gen(function* () {
      const root = fresh()
      yield* Effect.promise(() => write(asked(root, "a1"), [2, 4]))
      yield* Effect.promise(() => write(asked(root, "a2"), [5, 7]))
      // At most the newest is kept of each attempt.
      assert.deepStrictEqual(readdirSync(join(root, "attempts", "a2", "checkpoint")), ["7"])
      writeFileSync(join(checkpointDir(join(root, "attempts", "a2"), 7), "weights"), "weights 8")
      const found = yield* interruptedAttempts(root).find("c", "d")
      assert.deepInclude(found, { attempt: "a1", step: 4, state: { random: 4 } })
      // Its rows are those before the checkpoint's line: two of metrics and the first checkpoint.
      const { lines } = readJournal(join(root, "attempts", "a1", "journal.ndjson"))
      assert.strictEqual(lines.find((line) => line.offset === found?.offset)?.value["t"], "checkpoint")
      assert.strictEqual(lines.filter((line) => line.offset < (found?.offset ?? 0)).length, 3)
      assert.isUndefined(yield* interruptedAttempts(root).find("c", "other code"))
    })
  )

  it.live("that were not finished do not count", () =>
    Effect.gen(function* () {
      const root = fresh()
      const dir = asked(root, "a1")
      yield* Effect.promise(() => write(dir, [3]))
      // The next one was being written when the power went: a folder, and no line.
      writeFileSync(join(yield* Effect.promise(() => beginCheckpoint(dir, 6)), "weights"), "wei")
      assert.deepInclude(yield* interruptedAttempts(root).find("c", "d"), { step: 3 })
    })
  )
})
