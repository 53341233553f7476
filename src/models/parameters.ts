/**
 * The parameters of a model: what a device tensor is called, its shape, the tensors of a Hugging Face checkpoint that it is
 * made of, and how it starts. Projections that read the same input (query, key, value; gate, up) are one device tensor,
 * their rows one after the other: one matrix product instead of three. On disk they keep their own names.
 */
import { Effect, Scope } from "effect"
import type { FileSystem } from "effect/FileSystem"
import { Device, type DeviceTensor } from "../device/Device.ts"
import type { DeviceError } from "../device/DeviceError.ts"
import type { TensorSpec } from "../device/HostTensor.ts"
import { normals, stream, uniforms } from "../device/random.ts"
import type { LayerTensors } from "../tensor/composites/repeat.ts"
import { cast } from "../tensor/ops/elementwise.ts"
import { input, type Tensor } from "../tensor/Tensor.ts"
import { fail, MissingTensor, type ModelError, WrongShape } from "./ModelError.ts"
import { fromBFloat16, toBFloat16 } from "./safetensors/dtypes.ts"
import { type Checkpoint, openFolder } from "./safetensors/read.ts"
import * as safetensors from "./safetensors/write.ts"

/** A tensor of the checkpoint, and other names under which checkpoints in use hold it. */
export interface Part {
  readonly name: string
  readonly shape: ReadonlyArray<number>
  readonly aliases?: ReadonlyArray<string>
}

export type Init =
  | { readonly kind: "normal"; readonly deviation: number }
  | { readonly kind: "constant"; readonly value: number }
  /** In [-bound, bound). */
  | { readonly kind: "uniform"; readonly bound: number }

export interface ParameterSpec {
  /** The program input and the device tensor. */
  readonly name: string
  readonly shape: ReadonlyArray<number>
  /** Stacked along the first axis. */
  readonly parts: ReadonlyArray<Part>
  readonly init: Init
  /** How the device keeps it where not in float32: a frozen matrix, which programs widen where they read it. */
  readonly stored?: "bf16" | undefined
  /** Rows that belong together, as those of an attention head; 1 where it is left out. */
  readonly unit?: number
}

/** The device tensors of a model by parameter name, in the order of the table. */
export type Weights = ReadonlyMap<string, DeviceTensor>

const size = (shape: ReadonlyArray<number>) => shape.reduce((n, dim) => n * dim, 1)

/** A parameter that is one tensor of the checkpoint. */
export const single = (
  name: string,
  shape: ReadonlyArray<number>,
  init: Init,
  aliases?: ReadonlyArray<string>
): ParameterSpec => ({ name, shape, parts: [aliases === undefined ? { name, shape } : { name, shape, aliases }], init })

/** A parameter whose rows are those of several tensors of the checkpoint, which have equal columns. */
export const stacked = (
  name: string,
  parts: ReadonlyArray<{ readonly name: string; readonly rows: number }>,
  columns: ReadonlyArray<number>,
  init: Init,
  unit = 1
): ParameterSpec => ({
  name,
  shape: [parts.reduce((rows, part) => rows + part.rows, 0), ...columns],
  parts: parts.map((part) => ({ name: part.name, shape: [part.rows, ...columns] })),
  init,
  unit
})

/** A parameter, or what belongs to one by a prefix (its gradient, its moments), as a device is told of it. */
export const residentSpec = ({ name, parts, shape, stored, unit = 1 }: ParameterSpec, prefix = ""): TensorSpec => ({
  name: `${prefix}${name}`,
  dtype: stored ?? "f32",
  shape,
  ...(parts.length > 1 ? { stacked: { rows: parts.map((part) => part.shape[0]!), unit } } : {})
})

/** The number of a model's parameters. */
export const countParameters = (table: ReadonlyArray<ParameterSpec>): number =>
  table.reduce((n, { shape }) => n + size(shape), 0)

/** Program inputs for a table, by name. Throws a RangeError for a name that is not in the table. */
export const parameterInputs = (table: ReadonlyArray<ParameterSpec>) => {
  const all = table.map(({ name, shape, stored }) => input(name, stored ?? "f32", shape))
  const inputs = new Map<string, Tensor>(all.map((x, i) => [table[i]!.name, cast(x, "f32")]))
  const of = (name: string): Tensor => {
    const tensor = inputs.get(name)
    if (tensor === undefined) throw new RangeError(`the model has no parameter "${name}"`)
    return tensor
  }
  /** What stands under a prefix, by the rest of its name. */
  const under = (prefix: string): LayerTensors =>
    Object.fromEntries(
      [...inputs].flatMap(([name, x]) => (name.startsWith(prefix) ? [[name.slice(prefix.length), x]] : []))
    )
  return { of, under, all }
}
export type ParameterInputs = ReturnType<typeof parameterInputs>

/** Values as the device keeps them. */
const asStored = ({ stored }: ParameterSpec, values: Float32Array): Float32Array | Uint16Array =>
  stored === "bf16" ? toBFloat16(values) : values

/** How a part starts: its own random stream, so that neither order nor stacking matters. */
const initial = (init: Init, { name, shape }: Part, seed: number): Float32Array => {
  if (init.kind === "constant") return new Float32Array(size(shape)).fill(init.value)
  const own = stream(seed, "init", name)
  if (init.kind === "uniform") return uniforms(own, size(shape)).map((value) => (2 * value - 1) * init.bound)
  const values = normals(own, size(shape))
  for (let i = 0; i < values.length; i++) values[i]! *= init.deviation
  return values
}

/** Weights of a new model. */
export const initialise = Effect.fn("parameters.initialise")(function* (
  table: ReadonlyArray<ParameterSpec>,
  seed: number
): Effect.fn.Return<Weights, DeviceError, Device | Scope.Scope> {
  const device = yield* Device
  const weights = new Map<string, DeviceTensor>()
  for (const spec of table) {
    const { init, name, parts, shape } = spec
    const values = new Float32Array(size(shape))
    let at = 0
    for (const part of parts) {
      values.set(initial(init, part, seed), at)
      at += size(part.shape)
    }
    weights.set(name, yield* device.tensor(residentSpec(spec), asStored(spec, values)))
  }
  return weights
})

const find = (checkpoint: Checkpoint, { aliases = [], name }: Part) => {
  for (const candidate of [name, ...aliases]) {
    const info = checkpoint.tensors.get(candidate)
    if (info !== undefined) return info
  }
  return undefined
}

/** Whether the checkpoint holds every part of a parameter. */
export const holds = (checkpoint: Checkpoint, spec: ParameterSpec): boolean =>
  spec.parts.every((part) => find(checkpoint, part) !== undefined)

/** Reads every parameter of the table from a checkpoint, as float32. Missing and mis-shaped tensors are errors. */
export const read = Effect.fn("parameters.read")(function* (
  table: ReadonlyArray<ParameterSpec>,
  checkpoint: Checkpoint
): Effect.fn.Return<Weights, ModelError | DeviceError, Device | Scope.Scope> {
  const device = yield* Device
  for (const { parts } of table) {
    for (const part of parts) {
      const info = find(checkpoint, part)
      if (info === undefined) {
        return yield* fail(new MissingTensor({ file: checkpoint.source, tensor: part.name, expected: [...part.shape] }))
      }
      if (info.shape.length !== part.shape.length || info.shape.some((dim, i) => dim !== part.shape[i])) {
        return yield* fail(
          new WrongShape({ file: info.file, tensor: info.name, expected: [...part.shape], found: [...info.shape] })
        )
      }
    }
  }
  const weights = new Map<string, DeviceTensor>()
  for (const spec of table) {
    const { name, parts, shape } = spec
    let values: Float32Array
    if (parts.length === 1) values = yield* checkpoint.float32(find(checkpoint, parts[0]!)!)
    else {
      values = new Float32Array(size(shape))
      let at = 0
      for (const part of parts) {
        values.set(yield* checkpoint.float32(find(checkpoint, part)!), at)
        at += size(part.shape)
      }
    }
    weights.set(name, yield* device.tensor(residentSpec(spec), asStored(spec, values)))
  }
  return weights
})

/** Reads every parameter of the table from a model folder; the tensors live as long as the scope. */
export const readFolder = Effect.fnUntraced(function* (
  table: ReadonlyArray<ParameterSpec>,
  folder: string
): Effect.fn.Return<Weights, ModelError | DeviceError, Device | FileSystem | Scope.Scope> {
  const scope = yield* Scope.Scope
  return yield* Effect.scoped(
    Effect.flatMap(openFolder(folder), (checkpoint) => read(table, checkpoint).pipe(Scope.provide(scope)))
  )
})

/** Writes the weights under the checkpoint's names: equal weights give equal bytes. */
export const write = Effect.fn("parameters.write")(function* (
  file: string,
  table: ReadonlyArray<ParameterSpec>,
  weights: Weights,
  dtype: "F32" | "BF16" | "F16" = "F32"
): Effect.fn.Return<void, ModelError | DeviceError, Device | FileSystem> {
  const device = yield* Device
  const where = new Map<string, { readonly from: string; readonly start: number; readonly end: number }>()
  const tensors: Array<safetensors.TensorToWrite> = []
  for (const { name, parts } of table) {
    let at = 0
    for (const part of parts) {
      where.set(part.name, { from: name, start: at, end: (at += size(part.shape)) })
      tensors.push({ name: part.name, dtype, shape: part.shape })
    }
  }
  yield* safetensors.write(
    file,
    tensors,
    ({ name }) => {
      const { end, from, start } = where.get(name)!
      return Effect.map(device.read(weights.get(from)!), ({ data }) =>
        (data instanceof Uint16Array ? fromBFloat16(data) : (data as Float32Array)).subarray(start, end)
      )
    },
    { format: "pt" }
  )
})
