/**
 * LoRA (https://arxiv.org/abs/2106.09685): low-rank adapters beside frozen linear layers, as PEFT has them,
 *
 *   y = W x + b + s B A dropout(x),   A [rank, in], B [out, rank],   s = alpha / rank, or alpha / sqrt(rank) (rank-stabilised,
 *                                                                    https://arxiv.org/abs/2312.03732)
 *
 * B starts as zeros, so a new adapter changes nothing; A starts uniform in +- in^-1/2 (PEFT's kaiming_uniform with a = sqrt 5).
 * Names and shapes on disk are PEFT's, one pair for each layer of the model. On the device the factors A of layers that read the
 * same input (query, key, value; gate, up) are one tensor, as their weights are.
 */
import type { HostTensor } from "../device/HostTensor.ts"
import { stream, uniforms } from "../device/random.ts"
import { type LowRankPart, lowRank } from "../tensor/composites/lowRank.ts"
import type { LayerTensors } from "../tensor/composites/repeat.ts"
import { add } from "../tensor/ops/elementwise.ts"
import type { Tensor } from "../tensor/Tensor.ts"
import { type Adapt, decoderParameters, layerName } from "./decoder.ts"
import type { DecoderConfig } from "./decoderConfig.ts"
import { type ParameterInputs, type ParameterSpec, parameterInputs, stacked, type Weights } from "./parameters.ts"

export interface LoraSettings {
  /** Of both factors, >= 1. */
  readonly rank: number
  readonly alpha: number
  /** Share of a layer's inputs that its adapter does not see while it is trained: 0 <= share < 1. */
  readonly dropout: number
  /** s = alpha / sqrt(rank) instead of alpha / rank. */
  readonly rslora: boolean
  /** Which layers: all but the output head, or those whose names end so (`q_proj`, `layers.0.mlp.up_proj`). */
  readonly targets: "all-linear" | ReadonlyArray<string>
}

/** An adapter on the device: what it is and its tensors, by the names of `adapterParameters`. */
export interface Adapter {
  readonly settings: LoraSettings
  readonly weights: Weights
}

/** s. */
export const scaleOf = ({ alpha, rank, rslora }: LoraSettings): number => alpha / (rslora ? Math.sqrt(rank) : rank)

/** A linear layer by its name in a checkpoint: `model.layers.0.self_attn.q_proj`. */
export interface LinearLayer {
  readonly name: string
  /** Rows of its weight: what it puts out. */
  readonly rows: number
  readonly adapted: boolean
}

/** Linear layers that read the same input, whose weights are one device tensor `<name>.weight`. */
export interface Projection {
  readonly name: string
  /** Length of the input. */
  readonly columns: number
  readonly layers: ReadonlyArray<LinearLayer>
}

const isTarget = (name: string, targets: LoraSettings["targets"]) =>
  targets === "all-linear" || targets.some((target) => name === target || name.endsWith(`.${target}`))

/** The last words of the names of the layers that an adapter can have: `q_proj`, `k_proj`, ... */
export const linearNames = (config: DecoderConfig): ReadonlyArray<string> => [
  ...new Set(linear(config).flatMap(({ layers }) => layers.map(({ name }) => name.split(".").at(-1)!)))
]

const linear = (config: DecoderConfig, targets: LoraSettings["targets"] = []): ReadonlyArray<Projection> =>
  decoderParameters(config)
    .filter(({ name, shape }) => shape.length === 2 && name.startsWith("model.layers."))
    .map(({ name, parts, shape }) => ({
      name: name.replace(/\.weight$/, ""),
      columns: shape[1]!,
      layers: parts.map((part) => {
        const layer = part.name.replace(/\.weight$/, "")
        return { name: layer, rows: part.shape[0]!, adapted: isTarget(layer, targets) }
      })
    }))

/** The projections with at least one adapter. Throws a RangeError for settings that make none, or name what is not there. */
export const projections = (config: DecoderConfig, settings: LoraSettings): ReadonlyArray<Projection> => {
  const { dropout, rank, targets } = settings
  if (!(Number.isInteger(rank) && rank >= 1)) throw new RangeError(`LoRA: the rank is ${rank}; it must be at least 1`)
  if (!(dropout >= 0 && dropout < 1)) throw new RangeError(`LoRA: dropout is ${dropout}; it must be in [0, 1)`)
  const found = linear(config, targets)
  const names = found.flatMap(({ layers }) => layers.map(({ name }) => name))
  const valid = `"all-linear", or names among ${linearNames(config).join(", ")}`
  if (targets.length === 0) throw new RangeError(`LoRA: no targets; give ${valid}`)
  for (const target of targets === "all-linear" ? [] : targets) {
    if (!names.some((name) => isTarget(name, [target]))) {
      throw new RangeError(`LoRA: the target "${target}" is no linear layer of this model; valid: ${valid}`)
    }
  }
  return found.filter(({ layers }) => layers.some(({ adapted }) => adapted))
}

/** PEFT's name of a factor in `adapter_model.safetensors`. */
export const factorName = (layer: string, factor: "A" | "B"): string =>
  `base_model.model.${layer}.lora_${factor}.weight`

/** The table of an adapter's parameters; `projections` says what it throws. */
export const adapterParameters = (config: DecoderConfig, settings: LoraSettings): ReadonlyArray<ParameterSpec> =>
  projections(config, settings).flatMap(({ columns, layers, name }) => {
    const adapted = layers.filter((layer) => layer.adapted)
    const rows = adapted.map((layer) => ({ name: factorName(layer.name, "A"), rows: settings.rank }))
    const b = adapted.map((layer): ParameterSpec => {
      const shape = [layer.rows, settings.rank]
      const parts = [{ name: factorName(layer.name, "B"), shape }]
      return { name: `${layer.name}.lora_B`, shape, parts, init: { kind: "constant", value: 0 } }
    })
    return [stacked(`${name}.lora_A`, rows, [columns], { kind: "uniform", bound: columns ** -0.5 }), ...b]
  })

/** The inputs of a program over a policy's parameters, its adapter's among them. */
export const policyInputs = (config: DecoderConfig, lora?: LoraSettings): ParameterInputs =>
  parameterInputs([...decoderParameters(config), ...(lora ? adapterParameters(config, lora) : [])])

/** Nothing is added where there is no adapter. A layer's tensor `<linear layer>.dropout` is its mask, of the shape of its input. */
export const adapting = (config: DecoderConfig, lora: LoraSettings | undefined): Adapt => {
  if (lora === undefined) return (y) => y
  // what the layers' linear layers are called is the same in all; which of them have an adapter, their tensors say
  const inner = ({ name }: { readonly name: string }) => name.slice(layerName(0).length)
  const known = new Map(
    linear(config).flatMap((projection) =>
      projection.name.startsWith(layerName(0)) ? [[inner(projection), projection.layers] as const] : []
    )
  )
  return (y, x, name, own) => {
    const a = own[`${name}.lora_A`]
    if (a === undefined) return y
    const parts = known.get(name)!.map((layer): LowRankPart => {
      const at = inner(layer)
      return { rows: layer.rows, b: own[`${at}.lora_B`], mask: own[`${at}.dropout`] }
    })
    return add(y, lowRank(x, a, parts, scaleOf(lora)))
  }
}

/** The program input that holds a linear layer's mask [..., time, in]. */
export const maskName = (layer: string): string => `dropout:${layer}`

/** What makes the masks of a layer of a policy that is trained with dropout: `make` gives the input of a name and its last axis. */
export const dropoutTensors = (
  config: DecoderConfig,
  lora: LoraSettings | undefined,
  make: (input: string, columns: number) => Tensor
): ((layer: number) => LayerTensors) => {
  if (lora === undefined || lora.dropout === 0) return () => ({})
  const all = projections(config, lora)
  return (layer) =>
    Object.fromEntries(
      all.flatMap(({ columns, layers }) =>
        layers.flatMap(({ adapted, name }) =>
          adapted && name.startsWith(layerName(layer))
            ? [[`${name.slice(layerName(layer).length)}.dropout`, make(maskName(name), columns)] as const]
            : []
        )
      )
    )
}

/** Where a sequence lies in a micro-batch: its number in the batch, its first place among rows x time, and how many it has. */
export interface Piece {
  readonly sequence: number
  readonly first: number
  readonly places: number
}

/**
 * Dropout's masks of some rows, [rows, time, in] for every layer with an adapter: 1 / (1 - share) where kept. Drawn on the host, a
 * stream for each (seed, update, layer, sequence of the batch), a draw for each place: neither micro-batches nor packing change
 * anything.
 */
export const dropoutMasks = (
  config: DecoderConfig,
  lora: LoraSettings,
  seed: number,
  update: number,
  pieces: ReadonlyArray<Piece>,
  [rows, time]: readonly [rows: number, time: number]
): Readonly<Record<string, HostTensor>> => {
  const kept = 1 / (1 - lora.dropout)
  const masks: Record<string, HostTensor> = {}
  for (const { columns, layers } of projections(config, lora)) {
    for (const { adapted, name } of layers) {
      if (!adapted) continue
      const data = new Float32Array(rows * time * columns)
      for (const { first, places, sequence } of pieces) {
        const drawn = uniforms(stream(seed, "lora", "dropout", update, name, sequence), places * columns)
        const at = first * columns
        for (let k = 0; k < drawn.length; k++) data[at + k] = drawn[k]! < lora.dropout ? 0 : kept
      }
      masks[maskName(name)] = { dtype: "f32", shape: [rows, time, columns], data }
    }
  }
  return masks
}

/** Whether two settings make adapters of the same shape and scale on a model: dropout aside, the same adapter. */
export const sameShape = (config: DecoderConfig, a: LoraSettings, b: LoraSettings): boolean => {
  const layers = (settings: LoraSettings) =>
    projections(config, settings).flatMap((projection) =>
      projection.layers.flatMap(({ adapted, name }) => (adapted ? [name] : []))
    )
  return a.rank === b.rank && scaleOf(a) === scaleOf(b) && layers(a).join() === layers(b).join()
}
