/**
 * safetensors: an 8-byte little-endian header length, a JSON header `{name: {dtype, shape, data_offsets}}`, then raw
 * little-endian data. https://github.com/huggingface/safetensors (README, "Format").
 *
 * The header is checked in full before any tensor is used: length, dtypes, sizes, data that is contiguous from byte 0 to
 * the end of the file. Tensors are read one at a time. Sharded checkpoints (`model.safetensors.index.json`) are read as
 * one.
 */
import { Effect, Schema } from "effect"
import { FileSystem } from "effect/FileSystem"
import type { Scope } from "effect/Scope"
import { BadSafetensors, FileProblem, fail, type ModelError } from "../ModelError.ts"
import { refused } from "../refused.ts"
import { elements, isDtype, type SafetensorsDtype, sizes, toFloat32 } from "./dtypes.ts"

/** What the file system says of a file. */
export const fileProblem = (file: string) => refused(file, "read or written")

/** Where a tensor lies: bytes `[start, end)` of `file`. */
export interface TensorInfo {
  readonly name: string
  readonly dtype: SafetensorsDtype
  readonly shape: ReadonlyArray<number>
  readonly file: string
  readonly start: number
  readonly end: number
}

/** An open checkpoint: what it holds, and reads on demand. */
export interface Checkpoint {
  /** The file, or the folder of a sharded checkpoint: for messages. */
  readonly source: string
  readonly tensors: ReadonlyMap<string, TensorInfo>
  readonly metadata: Readonly<Record<string, string>>
  /** The tensor's bytes as stored. */
  readonly bytes: (info: TensorInfo) => Effect.Effect<Uint8Array<ArrayBuffer>, ModelError>
  /** The tensor as float32, whatever its dtype is stored as (integers up to 2^24 exactly). */
  readonly float32: (info: TensorInfo) => Effect.Effect<Float32Array<ArrayBuffer>, ModelError>
}

/** The longest header that is believed, as in the reference implementation. */
const maxHeaderBytes = 100_000_000

const Entry = Schema.Struct({
  dtype: Schema.String,
  shape: Schema.Array(Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))),
  data_offsets: Schema.Tuple([Schema.Int, Schema.Int])
})
const HeaderJson = Schema.fromJsonString(Schema.Record(Schema.String, Schema.Unknown))
const decodeHeader = Schema.decodeUnknownEffect(HeaderJson)
const decodeEntry = Schema.decodeUnknownEffect(Entry)
const decodeMetadata = Schema.decodeUnknownEffect(Schema.Record(Schema.String, Schema.String))

const bad = (file: string, detail: string, tensor?: string) =>
  fail(new BadSafetensors(tensor === undefined ? { file, detail } : { file, tensor, detail }))

/** The header of `file`, given its JSON text, the byte where its data begins and the file's size. */
const parseHeader = Effect.fnUntraced(function* (file: string, json: string, dataStart: number, fileBytes: number) {
  const header = yield* decodeHeader(json).pipe(
    Effect.mapError(() =>
      bad(file, "the header is not a JSON object; this is not a safetensors file, or it is damaged")
    )
  )
  const tensors: Array<TensorInfo> = []
  let metadata: Readonly<Record<string, string>> = {}
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") {
      metadata = yield* decodeMetadata(value).pipe(
        Effect.mapError(() => bad(file, "__metadata__ is not an object of strings"))
      )
      continue
    }
    const { dtype, shape, data_offsets } = yield* decodeEntry(value).pipe(
      Effect.mapError((error) => bad(file, `bad header entry: ${error.message}`, name))
    )
    if (!isDtype(dtype)) {
      return yield* bad(file, `dtype ${dtype} is not supported; supported: ${Object.keys(sizes).join(", ")}`, name)
    }
    const [start, end] = data_offsets
    const bytes = elements(shape) * sizes[dtype]
    if (start < 0 || end - start !== bytes) {
      return yield* bad(
        file,
        `${dtype} [${shape.join(", ")}] takes ${bytes} bytes but its offsets are [${start}, ${end}]`,
        name
      )
    }
    tensors.push({ name, dtype, shape, file, start: dataStart + start, end: dataStart + end })
  }
  tensors.sort((a, b) => a.start - b.start || a.end - b.end)
  let next = dataStart
  for (const tensor of tensors) {
    if (tensor.start !== next) {
      return yield* bad(
        file,
        `its data begins at byte ${tensor.start} where ${next} was expected: data overlaps or leaves a gap`,
        tensor.name
      )
    }
    if (tensor.end > fileBytes) {
      return yield* bad(
        file,
        `its data ends at byte ${tensor.end} but the file has ${fileBytes}: the file is truncated; fetch it again`,
        tensor.name
      )
    }
    next = tensor.end
  }
  if (next !== fileBytes) {
    return yield* bad(file, `${fileBytes - next} bytes follow the last tensor: the file is damaged; fetch it again`)
  }
  return { tensors, metadata }
})

/** Opens one safetensors file and checks its header. The file stays open as long as the scope. */
export const open = Effect.fn("safetensors.open")(function* (
  file: string
): Effect.fn.Return<Checkpoint, ModelError, FileSystem | Scope> {
  const fs = yield* FileSystem
  const handle = yield* fs.open(file, { flag: "r" }).pipe(Effect.mapError(fileProblem(file)))
  const fileBytes = Number((yield* handle.stat.pipe(Effect.mapError(fileProblem(file)))).size)

  const readAt = Effect.fnUntraced(function* (start: number, length: number) {
    const buffer = new Uint8Array(length)
    let done = 0
    while (done < length) {
      const part = buffer.subarray(done, Math.min(length, done + (1 << 30)))
      const n = yield* handle.read(part, { position: BigInt(start + done) }).pipe(Effect.mapError(fileProblem(file)))
      if (n === 0) return yield* bad(file, `the file ended at byte ${start + done}: it was truncated while being read`)
      done += n
    }
    return buffer
  })

  if (fileBytes < 8) {
    return yield* bad(file, `the file has ${fileBytes} bytes, a header needs 8: it is truncated or not safetensors`)
  }
  const headerBytes = Number(new DataView((yield* readAt(0, 8)).buffer).getBigUint64(0, true))
  if (headerBytes > maxHeaderBytes || 8 + headerBytes > fileBytes) {
    return yield* bad(
      file,
      `it announces a header of ${headerBytes} bytes in a file of ${fileBytes}: it is truncated or not safetensors`
    )
  }
  const json = new TextDecoder().decode(yield* readAt(8, headerBytes))
  const { tensors, metadata } = yield* parseHeader(file, json, 8 + headerBytes, fileBytes)
  const bytes: Checkpoint["bytes"] = (info) => readAt(info.start, info.end - info.start)
  return {
    source: file,
    tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])),
    metadata,
    bytes,
    float32: (info) => Effect.map(bytes(info), (raw) => toFloat32(info.dtype, raw))
  }
})

const ShardIndex = Schema.fromJsonString(Schema.Struct({ weight_map: Schema.Record(Schema.String, Schema.String) }))
const decodeIndex = Schema.decodeUnknownEffect(ShardIndex)

const singleName = "model.safetensors"
const indexName = "model.safetensors.index.json"

/** Which shard holds each tensor of a folder without `model.safetensors`; undefined where that is there. */
const shardsOf = Effect.fnUntraced(function* (
  folder: string
): Effect.fn.Return<Readonly<Record<string, string>> | undefined, ModelError, FileSystem> {
  const fs = yield* FileSystem
  const single = `${folder}/${singleName}`
  const index = `${folder}/${indexName}`
  if (yield* fs.exists(single).pipe(Effect.mapError(fileProblem(single)))) return undefined
  if (!(yield* fs.exists(index).pipe(Effect.mapError(fileProblem(index))))) {
    return yield* fail(
      new FileProblem({
        file: folder,
        detail:
          "has neither model.safetensors nor model.safetensors.index.json; convert the weights to safetensors, or name the folder that holds them"
      })
    )
  }
  const text = yield* fs.readFileString(index).pipe(Effect.mapError(fileProblem(index)))
  const { weight_map } = yield* decodeIndex(text).pipe(
    Effect.mapError((error) => bad(index, `is not a shard index: ${error.message}`))
  )
  const outside = Object.values(weight_map).find((shard) => shard.includes("/") || shard.includes("\\"))
  if (outside !== undefined) return yield* bad(index, `shard "${outside}" is outside the folder`)
  return weight_map
})

/** Names of the files that hold a model folder's weights. */
export const weightFiles = Effect.fn("safetensors.weightFiles")(function* (
  folder: string
): Effect.fn.Return<ReadonlyArray<string>, ModelError, FileSystem> {
  const shards = yield* shardsOf(folder)
  return shards === undefined ? [singleName] : [indexName, ...[...new Set(Object.values(shards))].sort()]
})

/** Opens the weights of a model folder: `model.safetensors`, or the shards that `model.safetensors.index.json` names. */
export const openFolder = Effect.fn("safetensors.openFolder")(function* (
  folder: string
): Effect.fn.Return<Checkpoint, ModelError, FileSystem | Scope> {
  const weight_map = yield* shardsOf(folder)
  if (weight_map === undefined) return yield* open(`${folder}/${singleName}`)
  const index = `${folder}/${indexName}`
  const shards = new Map<string, Checkpoint>()
  for (const shard of [...new Set(Object.values(weight_map))].sort()) {
    shards.set(shard, yield* open(`${folder}/${shard}`))
  }
  const tensors = new Map<string, TensorInfo>()
  for (const [name, shard] of Object.entries(weight_map)) {
    const info = shards.get(shard)?.tensors.get(name)
    if (info === undefined) return yield* bad(index, `is said to be in ${shard}, which does not hold it`, name)
    tensors.set(name, info)
  }
  const byFile = new Map([...shards.values()].map((shard) => [shard.source, shard]))
  return {
    source: folder,
    tensors,
    metadata: Object.assign({}, ...[...shards.values()].map((shard) => shard.metadata)),
    bytes: (info) => byFile.get(info.file)!.bytes(info),
    float32: (info) => byFile.get(info.file)!.float32(info)
  }
})
