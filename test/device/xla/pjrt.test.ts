/** The binding by itself: what the plugin refuses comes back as an error with code and message, never as an abort. */
import { describe, expect, it } from "vitest"
import { bytesAt } from "../../../src/device/ffi.ts"
import { locateLibrary } from "../../../src/device/onnx/library.ts"
import { Client } from "../../../src/device/xla/Client.ts"
import { compileOptions } from "../../../src/device/xla/compileOptions.ts"
import { Executable } from "../../../src/device/xla/Executable.ts"
import { namedValues, Pjrt, PjrtFailure, textAt, versionProblem } from "../../../src/device/xla/pjrt.ts"
import { cpuPlugin, locatePlugin } from "../../../src/device/xla/plugins.ts"
import type { Laid } from "../../../src/device/xla/Spread.ts"
import { absent, titled } from "./support.ts"

const module = `module {
  func.func public @main(%a: tensor<4xf32> {tf.aliasing_output = 0 : i32}, %b: tensor<4xf32>) -> (tensor<4xf32>) {
    %0 = stablehlo.add %a, %b : tensor<4xf32>
    return %0 : tensor<4xf32>
  }
}`

const failure = async (run: () => unknown): Promise<PjrtFailure> => {
  try {
    await run()
  } catch (error) {
    if (error instanceof PjrtFailure) return error
    throw error
  }
  throw new Error("nothing failed")
}

/** What lies there, read back: texts, integers, floats and truth values. */
const namedValuesAt = (address: bigint, count: number) => {
  const result: Record<string, string | number | boolean> = {}
  const bytes = bytesAt(address, 56 * count)
  const view = new DataView(bytes.buffer)
  for (let at = 0; at < 56 * count; at += 56) {
    const name = textAt(view.getBigUint64(at + 16, true), Number(view.getBigUint64(at + 24, true)))
    const [pointer, size] = [view.getBigUint64(at + 40, true), Number(view.getBigUint64(at + 48, true))]
    const kind = view.getInt32(at + 32, true)
    if (kind === 0) result[name] = textAt(pointer, size)
    else if (kind === 1) result[name] = Number(view.getBigInt64(at + 40, true))
    else if (kind === 3) result[name] = view.getFloat32(at + 40, true)
    else result[name] = view.getUint8(at + 40) !== 0
  }
  return result
}

describe("options in bytes", () => {
  it("always name replicas and partitions: without them the plugin ends the process", () => {
    // field 3 (build options): 4 replicas = 1, 5 partitions = 1, 9 device assignment {1: 1, 2: 1, 3: {1: [0]}}
    const build = [0x20, 1, 0x28, 1, 0x4a, 9, 8, 1, 16, 1, 0x1a, 3, 10, 1, 0]
    expect([...compileOptions()].slice(0, 2 + build.length)).toEqual([0x1a, build.length, ...build])
    expect(() => compileOptions({ partitions: 0 })).toThrow(RangeError)
  })

  it("go through native memory as they are", () => {
    const { address, count } = namedValues({ text: "two words", whole: -7n, yes: true, half: 0.5 })
    expect(namedValuesAt(address!, count)).toEqual({ text: "two words", whole: -7, yes: true, half: 0.5 })
  })
})

it("a library that is no plugin is refused with its name", () => {
  const located = locateLibrary()
  if (!("path" in located)) return
  expect(() => new Pjrt(located.path)).toThrow(/GetPjrtApi/)
})

it.each([
  [0, 53, /^it speaks PJRT API 0\.53; wanted is 0\.54 or a later 0\.x: `exp device install` brings one$/],
  [1, 60, /^it speaks PJRT API 1\.60; wanted/],
  [0, 54, undefined],
  [0, 116, undefined]
])("a plugin of version %i.%i", (major, minor, refusal) => {
  const problem = versionProblem({ major, minor })
  if (refusal === undefined) expect(problem).toBeUndefined()
  else expect(problem).toMatch(refusal)
})

describe.skipIf(absent !== undefined)(titled("the CPU plugin"), () => {
  const open = async () => {
    process.env["TF_CPP_MIN_LOG_LEVEL"] ??= "3"
    const located = locatePlugin(cpuPlugin)
    if (!("path" in located)) throw new Error(located.missing)
    return Client.open(new Pjrt(located.path), { cpu_device_count: 4n })
  }

  it("shows as many devices as it was asked for, runs, donates, serialises, and refuses", async () => {
    const client = await open()
    const { pjrt } = client
    expect([client.platform, client.devices.length]).toEqual(["cpu", 4])
    const signature = { arguments: 2, outputs: [{ dtype: "f32" as const, shape: [4] }] }
    const executable = new Executable(client, await client.compile(module, compileOptions()), signature)
    expect(executable.memory()).toMatchObject({ arguments: 32, outputs: 16, aliased: 16 })
    const [a, b] = [Float32Array.of(1, 2, 3, 4), Float32Array.of(1, 1, 1, 1)].map((data) =>
      client.put(data, "f32", [4])
    )
    const read = async (buffer: Laid) => {
      const into = new Float32Array(new ArrayBuffer(16))
      await pjrt.settle(client.get(buffer.shards[0]!, into))
      return [...into]
    }
    const kept = executable.start([a!, b!], [0, 1])
    await pjrt.settle(kept.events[0]!)
    expect([await read(kept.outputs[0]!), await read(a!)]).toEqual([
      [2, 3, 4, 5],
      [1, 2, 3, 4]
    ])
    const given = executable.start([a!, b!], [])
    await pjrt.settle(given.events[0]!)
    expect(await read(given.outputs[0]!)).toEqual([2, 3, 4, 5])
    expect(await failure(() => executable.start([a!, b!], []))).toMatchObject({
      code: 3,
      call: "LoadedExecutable_Execute"
    })

    const again = new Executable(client, await client.deserialize(executable.serialize()), signature)
    const reloaded = again.start([b!, b!], [0, 1])
    await pjrt.settle(reloaded.events[0]!)
    expect(await read(reloaded.outputs[0]!)).toEqual([2, 2, 2, 2])
    for (const bytes of [new Uint8Array(0), new Uint8Array(100).fill(7), executable.serialize().slice(0, 500)]) {
      expect((await failure(() => client.deserialize(bytes))).message).not.toBe("")
    }
    expect((await failure(() => client.compile("module {", compileOptions()))).message).toMatch(/parse/)
    expect((await failure(() => client.compile("", compileOptions()))).code).toBeGreaterThan(0)
    expect(
      (await failure(() => client.compile(module, compileOptions({ flags: { no_such_flag: 1 } })))).message
    ).toMatch(/no_such_flag/)
    const unsized = module.replaceAll("tensor<4xf32>", "tensor<?xf32>")
    expect((await failure(() => client.compile(unsized, compileOptions()))).message).toMatch(/dynamism/i)

    const before = client.bufferBytes
    for (const buffer of [a!, b!, ...kept.outputs, ...given.outputs, ...reloaded.outputs]) buffer.destroy()
    expect([before, client.bufferBytes]).toEqual([80, 0])
    for (const each of [executable, again]) each.destroy()
    client.destroy()
  })

  it("keeps the event loop going while it compiles", async () => {
    const client = await open()
    let ticks = 0
    const timer = setInterval(() => ticks++, 2)
    const lines = Array.from(
      { length: 60 },
      (_, i) => `    %${i + 1} = stablehlo.${["sine", "exponential", "tanh"][i % 3]} %${i} : tensor<4xf32>`
    )
    const long = module.replace("    return %0", `${lines.join("\n")}\n    return %60`)
    // this thread may itself stand still for as long as one compilation takes
    for (let i = 0; ticks === 0 && i < 100; i++) {
      const pointer = await client.compile(long, compileOptions())
      new Executable(client, pointer, { arguments: 2, outputs: [{ dtype: "f32", shape: [4] }] }).destroy()
    }
    clearInterval(timer)
    expect(ticks).toBeGreaterThan(0)
    client.destroy()
  })
})
