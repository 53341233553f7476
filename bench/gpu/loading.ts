/** Part a: whether the plugin loads and what it shows, and whether a donated buffer is the one that comes back. */

import { spawnSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { cpus, totalmem } from "node:os"
import { join } from "node:path"
import { Effect } from "effect"
import { Device, type DeviceTensor } from "../../src/device/Device.ts"
import { acquire } from "../../src/device/xla/acquire.ts"
import type { Client } from "../../src/device/xla/Client.ts"
import { pluginFolder, receiptFile } from "../../src/device/xla/plugins.ts"
import { XlaTensor } from "../../src/device/xla/XlaTensor.ts"
import { add } from "../../src/tensor/ops/elementwise.ts"
import { program } from "../../src/tensor/Program.ts"
import { input } from "../../src/tensor/Tensor.ts"
import { deviceOf, pluginOf, type Step } from "./Setting.ts"

/** What NVIDIA's own tool says of each card; null where it is not there. */
const nvidiaSmi = (): ReadonlyArray<string> | null => {
  const query = "--query-gpu=name,driver_version,memory.total,memory.used,power.limit,clocks.max.sm"
  const { status, stdout } = spawnSync("nvidia-smi", [query, "--format=csv,noheader"], { encoding: "utf8" })
  return status === 0 ? stdout.trim().split("\n") : null
}

/** Libraries of the vendor that this process has opened by now. */
const librariesOpen = (): ReadonlyArray<string> => {
  const maps = existsSync("/proc/self/maps") ? readFileSync("/proc/self/maps", "utf8") : ""
  const paths = [...maps.matchAll(/\s(\/\S*\/lib(?:cu|nv)\S*\.so\S*)$/gm)].map(([, path]) => path!)
  return [...new Set(paths)].sort()
}

/** The plugin opened, its devices, their memory, the driver, the machine. */
export const loading: Step = (setting) =>
  Effect.gen(function* () {
    const plugin = pluginOf(setting)
    const receipt = join(pluginFolder(plugin), receiptFile)
    const driver = "/proc/driver/nvidia/version"
    const machine = {
      node: process.version,
      processor: cpus()[0]?.model.trim(),
      cores: cpus().length,
      memoryBytes: totalmem(),
      nvidiaSmi: nvidiaSmi(),
      driver: existsSync(driver) ? readFileSync(driver, "utf8").split("\n")[0] : null,
      receipt: existsSync(receipt) ? JSON.parse(readFileSync(receipt, "utf8")) : null
    }
    setting.keep(machine)
    const start = performance.now()
    const client = yield* acquire(plugin, undefined)
    return {
      ...machine,
      openSeconds: (performance.now() - start) / 1000,
      plugin: plugin.provider,
      pinned: plugin.version,
      api: client.pjrt.version,
      platform: client.platform,
      platformVersion: client.platformVersion,
      libraries: librariesOpen(),
      devices: client.devices.map((device) => ({ kind: client.kindOf(device), memory: client.memoryOf(device) }))
    }
  }).pipe(Effect.scoped)

/** Where a tensor's elements lie in the device's memory. */
const addressOf = ({ pjrt }: Client, tensor: DeviceTensor): string => {
  if (!(tensor instanceof XlaTensor) || tensor.buffer === undefined) throw new Error(`${tensor.name} has no buffer`)
  const { pointer } = tensor.buffer.shards[0]!
  return `0x${pjrt
    .call("Buffer_UnsafePointer", (a) => a.pointer(16, pointer))
    .pointerAt(24)
    .toString(16)}`
}

/** x + 1 into x again and again: the address must stay, and with it the memory. */
export const donation: Step = (setting) =>
  Effect.gen(function* () {
    const client = yield* acquire(pluginOf(setting), undefined)
    const device = yield* Device
    const count = setting.tiny ? 2 ** 16 : 2 ** 26
    const x = yield* device.tensor({ name: "x", dtype: "f32", shape: [count] }, new Float32Array(count))
    const made = program("increment", {
      outputs: { y: add(input("x", "f32", [count]), 1) },
      donate: { y: "x" }
    })
    const loaded = yield* device.load(made)
    const before = addressOf(client, x)
    const after: Array<string> = []
    for (let i = 0; i < 4; i++) {
      yield* device.run(loaded, { x }, { y: x })
      after.push(addressOf(client, x))
    }
    const { data } = yield* device.read(x)
    return {
      bytes: x.byteLength,
      before,
      after,
      inPlace: after.every((address) => address === before),
      value: Number(data[count - 1]),
      right: data.every((value) => Number(value) === 4)
    }
  }).pipe(Effect.scoped, Effect.provide(deviceOf(setting, "f32")))
