/**
 * What lies where on a mesh: for every axis of a tensor the mesh's axes that it is cut over, by a table of rules that goes by
 * names and shapes alone. Nothing else of the project knows of meshes: XLA's partitioner makes one program for all devices
 * of these layouts and puts in the sums and copies between them (Shardy; GSPMD, https://arxiv.org/abs/2105.04663).
 *
 *   batches, caches   their rows (and flat tokens) over data and fsdp
 *   parameters, with their gradients and moments
 *     fsdp    the longest axis that model leaves and that divides (ZeRO, https://arxiv.org/abs/1910.02054)
 *     model   a decoder's projections by heads and inner width, embedding and head by vocabulary (Megatron,
 *             https://arxiv.org/abs/1909.08053): those into a layer's middle by rows, those out of it by columns
 *
 * A part that does not come out even is kept whole on every device instead.
 */
import type { Shape } from "../../tensor/Dim.ts"
import { axisSize, coordinate, type Mesh, type MeshAxis } from "../mesh.ts"

/** For every axis of a tensor the mesh's axes that cut it, the outer one first; none where it is whole. */
export type Spec = ReadonlyArray<ReadonlyArray<MeshAxis>>

/**
 * The order of the rows of a tensor of several stacked parts that is cut `ways` times: first every part's first share,
 * then every part's second share, so that a device holds its share of each part.
 */
export interface Order {
  readonly ways: number
  /** Rows of each part. */
  readonly parts: ReadonlyArray<number>
}

/** How a tensor lies on the devices. */
export interface Placement {
  readonly spec: Spec
  /** How programs compute with it: `spec`, but for parameters that `fsdp` only keeps in parts. */
  readonly compute: Spec
  readonly order: Order | undefined
}

/** A placement that is computed with as it is kept. */
export const laidAs = (spec: Spec): Placement => ({ spec, compute: spec, order: undefined })

/** The heads of an attention cannot be shared out evenly; the message has the numbers. */
export class Unshardable extends Error {}

/** Axes that a batch is cut over. */
export const batchAxes: ReadonlyArray<MeshAxis> = ["data", "fsdp"]

/** Dimensions that count what is independent of one another: rows of a batch, and its completion tokens one after another. */
const batchDims: ReadonlySet<string> = new Set(["rows", "groups", "prompts", "kept", "tokens"])

/** How many shares a batch is cut into. */
export const batchWays = (mesh: Mesh): number => batchAxes.reduce((n, name) => n * axisSize(mesh, name), 1)

/** Whether sizes of a dimension are filled up to a multiple of `batchWays`. */
export const isBatchDim = (name: string): boolean => batchDims.has(name)

/** Everything on every device. */
export const whole = (rank: number): Spec => Array.from({ length: rank }, () => [])
const present = (mesh: Mesh, axes: ReadonlyArray<MeshAxis>) => axes.filter((name) => axisSize(mesh, name) > 1)
const waysOf = (mesh: Mesh, axes: ReadonlyArray<MeshAxis>) => axes.reduce((n, name) => n * axisSize(mesh, name), 1)

/** Whether every device has everything. */
export const isWhole = (spec: Spec): boolean => spec.every((axes) => axes.length === 0)
export const specText = (spec: Spec): string => spec.map((axes) => axes.join("+")).join()

/** The placement without the cuts that do not come out even. */
export const fitted = (mesh: Mesh, { compute, order, spec }: Placement, shape: ReadonlyArray<number>): Placement => {
  const even = (given: Spec) =>
    given.map((axes, i) => (shape[i]! % waysOf(mesh, axes) === 0 && shape[i]! > 0 ? axes : []))
  return { spec: even(spec), compute: even(compute), order }
}

/** How a feed is cut, by the names of its dimensions: the first one that counts a batch. */
export const feedSpec = (mesh: Mesh, shape: Shape): Spec => {
  const at = shape.findIndex((dim) => typeof dim !== "number" && batchDims.has(dim.text))
  return whole(shape.length).map((axes, i) => (i === at ? present(mesh, batchAxes) : axes))
}

/** What is known of a tensor that stays on the devices. */
export interface Resident {
  readonly name: string
  readonly shape: ReadonlyArray<number>
  readonly stacked?: { readonly rows: ReadonlyArray<number>; readonly unit: number } | undefined
}

/** Parameters of a decoder that the axis `model` cuts, by the end of their names. Biases after a sum are whole. */
const modelRules: ReadonlyArray<readonly [name: RegExp, axis: number]> = [
  [/^model\.embed_tokens\.weight$/, 0],
  [/^lm_head\.weight$/, 0],
  [/\.self_attn\.qkv\.(weight|bias)$/, 0],
  [/\.self_attn\.o_proj\.weight$/, 1],
  [/\.mlp\.gate_up\.(weight|bias)$/, 0],
  [/\.mlp\.down_proj\.weight$/, 1],
  // adapters, as the outputs and inputs that they go with
  [/\.(self_attn\.[qkv]|mlp\.(gate|up))_proj\.lora_B$/, 0],
  [/\.(self_attn\.o|mlp\.down)_proj\.lora_A$/, 1]
]

/**
 * How a tensor is to lie, and what had to be kept whole although a rule cuts it. Throws Unshardable where attention's heads
 * cannot be shared out.
 */
export const placementOf = (
  mesh: Mesh,
  { name, shape, stacked }: Resident
): Placement & { readonly left: string | undefined } => {
  if (/^cache:[kv]:/.test(name)) {
    // [rows, key-value heads, places, head size]
    return { ...laidAs([present(mesh, batchAxes), present(mesh, ["model"]), [], []]), left: undefined }
  }
  const parameter = name.replace(/^(grad|m|v):/, "")
  const spec: Array<ReadonlyArray<MeshAxis>> = [...whole(shape.length)]
  let order: Order | undefined
  let left: string | undefined
  const model = axisSize(mesh, "model")
  const rule = model === 1 ? undefined : modelRules.find(([pattern]) => pattern.test(parameter))
  if (rule !== undefined) {
    const [, axis] = rule
    const parts = axis === 0 ? stacked?.rows : undefined
    if (parts !== undefined && parameter.includes(".self_attn.")) checkHeads(model, parameter, parts, stacked!.unit)
    if ((parts ?? [shape[axis]!]).every((rows) => rows % model === 0)) {
      spec[axis] = ["model"]
      if (parts !== undefined && parts.length > 1) order = { ways: model, parts }
    } else left = `${parameter} [${shape.join(", ")}] on every device: model=${model} does not divide axis ${axis}`
  }
  const compute = [...spec]
  const fsdp = axisSize(mesh, "fsdp")
  if (fsdp > 1 && shape.length > 1) {
    const free = shape
      .map((size, axis) => ({ size, axis }))
      .filter(({ axis, size }) => spec[axis]!.length === 0 && size % fsdp === 0)
      .sort((a, b) => b.size - a.size || a.axis - b.axis)
    if (free.length > 0) spec[free[0]!.axis] = ["fsdp"]
    else left ??= `${parameter} [${shape.join(", ")}] on every device: fsdp=${fsdp} divides no axis that is left`
  }
  return { spec, compute, order, left }
}

const checkHeads = (model: number, name: string, parts: ReadonlyArray<number>, unit: number): void => {
  const kinds = ["query", "key", "value"]
  parts.forEach((rows, i) => {
    const heads = rows / unit
    if (heads % model === 0) return
    const most = Array.from({ length: model }, (_, n) => model - n).find((n) =>
      parts.every((all) => (all / unit) % n === 0)
    )
    throw new Unshardable(
      `model=${model} does not divide the ${heads} ${kinds[i]} heads of ${name}: each device needs whole heads with their keys and values; at most model=${most} here`
    )
  })
}

/** The part of an axis that a device holds. */
export interface Range {
  readonly start: number
  readonly size: number
}

/** The part of a tensor that a device holds, axis by axis. Every cut comes out even (`fitted`). */
export const shareOf = (mesh: Mesh, spec: Spec, shape: ReadonlyArray<number>, device: number): ReadonlyArray<Range> =>
  shape.map((all, i) => {
    const axes = spec[i]!
    const size = all / waysOf(mesh, axes)
    const at = axes.reduce((n, name) => n * axisSize(mesh, name) + coordinate(mesh, name, device), 0)
    return { start: at * size, size }
  })

/** The shape of a device's part. */
export const shareShape = (mesh: Mesh, spec: Spec, shape: ReadonlyArray<number>): ReadonlyArray<number> =>
  shape.map((all, i) => all / waysOf(mesh, spec[i]!))

/** `sdy.mesh @mesh = <["data"=2, "model"=2]>`. */
export const meshLine = ({ axes }: Mesh): string =>
  `sdy.mesh @mesh = <[${axes.map(({ name, size }) => `"${name}"=${size}`).join(", ")}]>`

/** The attribute's value: `#sdy.sharding<@mesh, [{"data"}, {}]>`. Nothing may be cut further. */
export const shardingText = (spec: Spec): string =>
  `#sdy.sharding<@mesh, [${spec.map((axes) => `{${axes.map((name) => `"${name}"`).join(", ")}}`).join(", ")}]>`

/** For each place of a tensor's first axis the row that lies there. */
export const rowsInOrder = ({ parts, ways }: Order): Int32Array => {
  const rows = new Int32Array(parts.reduce((n, count) => n + count, 0))
  const starts = parts.map((_, i) => parts.slice(0, i).reduce((n, count) => n + count, 0))
  let at = 0
  for (let way = 0; way < ways; way++) {
    parts.forEach((count, i) => {
      const share = count / ways
      for (let row = 0; row < share; row++) rows[at++] = starts[i]! + way * share + row
    })
  }
  return rows
}
