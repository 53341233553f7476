import { readdirSync, readFileSync, rmSync } from "node:fs"
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
import { runPlan } from "../support/counted.ts"
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
})
