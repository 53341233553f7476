import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, layer } from "@effect/vitest"
import { Effect } from "effect"
import { FileSystem } from "effect/FileSystem"
import * as fc from "fast-check"
import { it } from "vitest"
import type { ModelError } from "../../src/models/ModelError.ts"
import { toBFloat16, toFloat32 } from "../../src/models/safetensors/dtypes.ts"
import { open, openFolder } from "../../src/models/safetensors/read.ts"
import { type TensorData, type TensorToWrite, write } from "../../src/models/safetensors/write.ts"

const folder = Effect.flatMap(FileSystem, (fs) => fs.makeTempDirectoryScoped())

/** A safetensors file from its header and data: what the writer would not write. */
const craft = Effect.fnUntraced(function* (header: string, data: Uint8Array, announced?: number) {
  const fs = yield* FileSystem
  const file = `${yield* folder}/x.safetensors`
  const json = new TextEncoder().encode(header)
  const bytes = new Uint8Array(8 + json.length + data.length)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(announced ?? json.length), true)
  bytes.set(json, 8)
  bytes.set(data, 8 + json.length)
  yield* fs.writeFile(file, bytes)
  return file
})

const message = <A, R>(effect: Effect.Effect<A, ModelError, R>) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert.strictEqual(error.reason._tag, "BadSafetensors")
    return error.message
  })

layer(NodeServices.layer)("safetensors", (it) => {
  it.effect("reads back what it wrote, in every stored dtype, and sorts names", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem
      const file = `${yield* folder}/a.safetensors`
      const data: Record<string, TensorData> = {
        "z.weight": Float32Array.of(1, -2.5, 3e-8, 4, 5, 6),
        half: Float32Array.of(0.5, -1, 65504),
        brain: Float32Array.of(1.00390625, -2, 3),
        ids: Int32Array.of(7, -1),
        scalar: Float32Array.of(42),
        none: Float32Array.of()
      }
      const tensors: Array<TensorToWrite> = [
        { name: "z.weight", dtype: "F32", shape: [2, 3] },
        { name: "half", dtype: "F16", shape: [3] },
        { name: "brain", dtype: "BF16", shape: [3] },
        { name: "ids", dtype: "I32", shape: [2] },
        { name: "scalar", dtype: "F32", shape: [] },
        { name: "none", dtype: "F32", shape: [0, 4] }
      ]
      yield* write(file, tensors, ({ name }) => Effect.succeed(data[name]!), { format: "pt", b: "1" })
      const bytes = yield* fs.readFile(file)
      yield* write(file, [...tensors].reverse(), ({ name }) => Effect.succeed(data[name]!), {
        b: "1",
        format: "pt"
      })
      assert.deepStrictEqual(yield* fs.readFile(file), bytes)
      assert.strictEqual(new DataView(bytes.buffer, bytes.byteOffset).getUint8(0) % 8, 0)

      const checkpoint = yield* open(file)
      assert.deepStrictEqual([...checkpoint.tensors.keys()], ["brain", "half", "ids", "none", "scalar", "z.weight"])
      assert.deepStrictEqual(checkpoint.metadata, { b: "1", format: "pt" })
      const read = (name: string) => checkpoint.float32(checkpoint.tensors.get(name)!)
      assert.deepStrictEqual(yield* read("z.weight"), data["z.weight"])
      assert.deepStrictEqual(yield* read("half"), data["half"])
      // 1.00390625 = 1 + 2^-8 lies half-way between two BF16 numbers: the even one is 1
      assert.deepStrictEqual(yield* read("brain"), Float32Array.of(1, -2, 3))
      assert.deepStrictEqual(yield* read("ids"), Float32Array.of(7, -1))
      assert.deepStrictEqual(yield* read("none"), Float32Array.of())
    })
  )

  it.effect("names the file and the tensor of a truncated file", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem
      const dir = yield* folder
      yield* write(
        `${dir}/model.safetensors`,
        [
          { name: "a", dtype: "F32", shape: [4] },
          { name: "b", dtype: "F32", shape: [100] }
        ],
        ({ name }) => Effect.succeed(new Float32Array(name === "a" ? 4 : 100))
      )
      yield* fs.truncate(`${dir}/model.safetensors`, 300)
      const text = yield* message(openFolder(dir))
      assert.match(text, /model\.safetensors: tensor "b": .*the file is truncated; fetch it again/)
      yield* fs.truncate(`${dir}/model.safetensors`, 20)
      assert.match(yield* message(openFolder(dir)), /announces a header of \d+ bytes in a file of 20/)
      yield* fs.truncate(`${dir}/model.safetensors`, 3)
      assert.match(yield* message(openFolder(dir)), /has 3 bytes/)
    })
  )

  it.effect.each([
    ["not JSON", "{", 0, /not a JSON object/],
    [
      "unknown dtype",
      '{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}',
      1,
      /dtype F8_E4M3 is not supported/
    ],
    ["size", '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', 4, /F32 \[2\] takes 8 bytes .* \[0, 4\]/],
    ["negative", '{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', 4, /bad header entry/],
    [
      "overlap",
      '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}',
      6,
      /tensor "b": .*overlaps or leaves a gap/
    ],
    [
      "gap",
      '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[6,10]}}',
      10,
      /tensor "b": .*overlaps or leaves a gap/
    ],
    ["trailing", '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}', 9, /5 bytes follow the last tensor/]
  ] as const)("refuses a bad header: %s", ([, header, bytes, expected]) =>
    Effect.gen(function* () {
      const file = yield* craft(header, new Uint8Array(bytes))
      assert.match(yield* message(open(file)), expected)
    })
  )

  it.effect("reads shards as one checkpoint and refuses an index that is wrong", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem
      const dir = yield* folder
      for (const [shard, name] of [
        ["model-1.safetensors", "a"],
        ["model-2.safetensors", "b"]
      ] as const) {
        yield* write(`${dir}/${shard}`, [{ name, dtype: "F32", shape: [1] }], () =>
          Effect.succeed(Float32Array.of(name === "a" ? 1 : 2))
        )
      }
      const index = `${dir}/model.safetensors.index.json`
      const writeIndex = (map: Record<string, string>) => fs.writeFileString(index, JSON.stringify({ weight_map: map }))
      yield* writeIndex({ a: "model-1.safetensors", b: "model-2.safetensors" })
      const checkpoint = yield* openFolder(dir)
      assert.deepStrictEqual(yield* checkpoint.float32(checkpoint.tensors.get("b")!), Float32Array.of(2))
      yield* writeIndex({ a: "model-2.safetensors" })
      assert.match(yield* message(openFolder(dir)), /"a": is said to be in model-2/)
      yield* writeIndex({ a: "../model-1.safetensors" })
      assert.match(yield* message(openFolder(dir)), /outside the folder/)
    })
  )

  it.effect("says what a folder without weights needs", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(openFolder(yield* folder))
      assert.match(error.message, /neither model\.safetensors nor model\.safetensors\.index\.json/)
    })
  )
})

describe("conversion", () => {
  it("rounds float32 to BF16 to nearest even and back, over all bit patterns tried", () => {
    const bits = new Uint32Array(1)
    const value = new Float32Array(bits.buffer)
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffffffff }), (pattern) => {
        bits[0] = pattern
        const half = toBFloat16(value)
        const back = toFloat32("BF16", new Uint8Array(half.buffer))[0]!
        if (Number.isNaN(value[0]!)) return Number.isNaN(back)
        if (!Number.isFinite(back)) return Math.abs(value[0]!) >= 3.3895e38
        // no BF16 number is nearer: the neighbours are at least as far away
        const neighbour = (step: number) =>
          toFloat32("BF16", new Uint8Array(Uint16Array.of(half[0]! + step).buffer))[0]!
        const distance = Math.abs(back - value[0]!)
        return [-1, 1].every((step) => !(Math.abs(neighbour(step) - value[0]!) < distance))
      }),
      { seed: 1, numRuns: 2000 }
    )
  })
})
