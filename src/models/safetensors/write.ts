/// <reference lib="esnext.float16" />
/** Writes safetensors files (`read.ts` says what they are): names sorted, so that equal tensors give equal bytes. */
import { Effect } from "effect"
import { FileSystem } from "effect/FileSystem"
import type { ModelError } from "../ModelError.ts"
import { elements, sizes, toBFloat16 } from "./dtypes.ts"
import { fileProblem } from "./read.ts"

/** A tensor to be written. `F32`, `F16` and `BF16` take a Float32Array, the integer dtypes their own typed array. */
export interface TensorToWrite {
  readonly name: string
  readonly dtype: "F32" | "F16" | "BF16" | "I32" | "I64" | "U8"
  readonly shape: ReadonlyArray<number>
}
export type TensorData = Float32Array | Int32Array | BigInt64Array | Uint8Array

const encodeData = (dtype: TensorToWrite["dtype"], data: TensorData): Uint8Array => {
  const stored =
    data instanceof Float32Array && dtype === "F16"
      ? new Float16Array(data)
      : data instanceof Float32Array && dtype === "BF16"
        ? toBFloat16(data)
        : data
  return new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength)
}

/**
 * Writes a safetensors file whose bytes depend only on its tensors and metadata. `read` is asked for one tensor at a time,
 * in order of names, so a model need not be in memory twice. The file is complete on disk when this returns.
 */
export const write = Effect.fn("safetensors.write")(function* <E, R>(
  file: string,
  tensors: ReadonlyArray<TensorToWrite>,
  read: (tensor: TensorToWrite) => Effect.Effect<TensorData, E, R>,
  metadata: Readonly<Record<string, string>> = {}
): Effect.fn.Return<void, E | ModelError, R | FileSystem> {
  const sorted = [...tensors].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
  const header: Record<string, unknown> = {}
  const keys = Object.keys(metadata).sort()
  if (keys.length > 0) header["__metadata__"] = Object.fromEntries(keys.map((key) => [key, metadata[key]]))
  let offset = 0
  for (const { dtype, name, shape } of sorted) {
    const end = offset + elements(shape) * sizes[dtype]
    header[name] = { dtype, shape, data_offsets: [offset, end] }
    offset = end
  }
  const json = new TextEncoder().encode(JSON.stringify(header))
  const padded = Math.ceil(json.length / 8) * 8
  const prefix = new Uint8Array(8 + padded).fill(0x20, 8)
  new DataView(prefix.buffer).setBigUint64(0, BigInt(padded), true)
  prefix.set(json, 8)

  yield* Effect.scoped(
    Effect.gen(function* () {
      const fs = yield* FileSystem
      const handle = yield* fs.open(file, { flag: "w" }).pipe(Effect.mapError(fileProblem(file)))
      yield* handle.writeAll(prefix).pipe(Effect.mapError(fileProblem(file)))
      for (const tensor of sorted) {
        const data = encodeData(tensor.dtype, yield* read(tensor))
        const bytes = elements(tensor.shape) * sizes[tensor.dtype]
        if (data.byteLength !== bytes) {
          throw new RangeError(
            `${tensor.name}: ${data.byteLength} bytes of data for ${tensor.dtype} [${tensor.shape.join(", ")}], which takes ${bytes}`
          )
        }
        yield* handle.writeAll(data).pipe(Effect.mapError(fileProblem(file)))
      }
      yield* handle.sync.pipe(Effect.mapError(fileProblem(file)))
    })
  )
})
