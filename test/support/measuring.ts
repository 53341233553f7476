/** A pipeline of one stage that uses the device. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { Effect, Option } from "effect"
import { Report } from "../../src/artifact/kinds.ts"
import { Device } from "../../src/device/Device.ts"
import { DeviceLost, deviceError, OutOfMemory } from "../../src/device/DeviceError.ts"
import { usualBatch } from "../../src/device/microBatch.ts"
import * as Pipeline from "../../src/dsl/Pipeline.ts"
import * as Param from "../../src/dsl/param.ts"
import * as Stage from "../../src/dsl/Stage.ts"
import { Task } from "../../src/dsl/Task.ts"

const measure = Stage.make("measure", {
  module: import.meta.url,
  version: 1,
  params: Param.struct({
    size: Param.int(3, "elements", { min: 1 }),
    room: Param.number(1, "the largest share of a micro-batch that fits the device's memory", { min: 0 }),
    lost: Param.literal(
      ["never", "once", "always", "crash"],
      "never",
      "the device goes away after the first checkpoint"
    )
  }),
  inputs: {},
  outputs: { report: Report },
  device: true,
  run: Effect.fnUntraced(function* ({ params, outputs }) {
    const device = yield* Device
    const resumed = params.lost !== "never" ? yield* Task.use((task) => task.resume) : Option.none()
    yield* Task.use((task) =>
      task.checkpoint(1, {}, (dir) => Effect.sync(() => writeFileSync(join(dir, "state"), "1")))
    )
    if (params.lost === "crash" && Option.isNone(resumed)) {
      console.log("F0000 gpu.cc:7] Check failed: done CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure")
      process.abort()
    }
    if (params.lost === "always" || (params.lost === "once" && Option.isNone(resumed))) {
      return yield* deviceError(new DeviceLost({ program: "program measure", detail: "CUDA_ERROR_LAUNCH_FAILED" }))
    }
    if ((device.info.batch ?? usualBatch).places > params.room * usualBatch.places) {
      return yield* deviceError(new OutOfMemory({ what: "program measure", bytes: null }))
    }
    const data = Float32Array.from({ length: params.size }, (_, i) => i / 3)
    const tensor = yield* device.tensor({ name: "x", dtype: "f32", shape: [params.size] }, data)
    const back = yield* device.read(tensor)
    yield* Task.use((task) => task.progress(1, 1))
    writeFileSync(join(outputs.report.dir, "report.json"), JSON.stringify([...(back.data as Float32Array)]))
  }, Effect.scoped)
})

export default Pipeline.make("measuring", { measure: measure.params }, (p) => measure({}, p.measure))
