/**
 * A policy with an adapter as a folder: PEFT's layout (`adapter_config.json`, `adapter_model.safetensors`), and the model that it
 * belongs to in the folder `base` within, so that the folder is whole wherever it is moved. In Python:
 *
 *   PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("<folder>/base"), "<folder>")
 *
 * Of PEFT's options those that this LoRA does not have are refused by name: an adapter that is nearly right is worse than none.
 */
import { Effect, Schema, type Scope } from "effect"
import { FileSystem } from "effect/FileSystem"
import type { Device } from "../device/Device.ts"
import type { DeviceError } from "../device/DeviceError.ts"
import { badConfig, readOptional, unsupported } from "./config.ts"
import type { DecoderConfig } from "./decoderConfig.ts"
import { type Adapter, adapterParameters, type LoraSettings, projections } from "./lora.ts"
import { BadConfig, BadSafetensors, FileProblem, fail, type ModelError } from "./ModelError.ts"
import { type ParameterSpec, read, type Weights, write } from "./parameters.ts"
import { refused } from "./refused.ts"
import { type Checkpoint, open, weightFiles } from "./safetensors/read.ts"

export const adapterConfigFile = "adapter_config.json"
export const adapterWeightsFile = "adapter_model.safetensors"
/** Where an adapter's folder holds the model below it. */
export const baseFolder = "base"

const AdapterJson = Schema.fromJsonString(
  Schema.StructWithRest(
    Schema.Struct({
      peft_type: Schema.String,
      base_model_name_or_path: Schema.optionalKey(Schema.NullOr(Schema.String)),
      revision: Schema.optionalKey(Schema.NullOr(Schema.String)),
      r: Schema.Int,
      lora_alpha: Schema.Finite,
      lora_dropout: Schema.optionalKey(Schema.Finite),
      use_rslora: Schema.optionalKey(Schema.Boolean),
      target_modules: Schema.Union([Schema.String, Schema.Array(Schema.String)]),
      init_lora_weights: Schema.optionalKey(Schema.Unknown)
    }),
    [Schema.Record(Schema.String, Schema.Unknown)]
  )
)

/** PEFT's options that make another function of the same factors, and the only value each may have (else null or empty). */
const refusedOptions: Readonly<Record<string, unknown>> = {
  bias: "none",
  fan_in_fan_out: false,
  use_dora: false,
  use_qalora: false,
  use_bdlora: null,
  lora_bias: false,
  modules_to_save: null,
  rank_pattern: null,
  alpha_pattern: null,
  layers_to_transform: null,
  layers_pattern: null,
  layer_replication: null,
  exclude_modules: null,
  target_parameters: null,
  trainable_token_indices: null,
  alora_invocation_tokens: null,
  arrow_config: null
}

const isNothing = (value: unknown): boolean =>
  value === undefined || value === null || (typeof value === "object" && Object.keys(value).length === 0)

/** What an `adapter_config.json` says. */
export interface AdapterConfig {
  readonly settings: LoraSettings
  /** The model that it was trained on, as PEFT wrote it down: a name on the hub or somebody's path. */
  readonly base: { readonly name: string; readonly revision?: string } | undefined
}

/** The adapter's description in a folder; undefined where there is none. */
export const readAdapterConfig = Effect.fn("readAdapterConfig")(function* (
  folder: string
): Effect.fn.Return<AdapterConfig | undefined, ModelError, FileSystem> {
  const file = `${folder}/${adapterConfigFile}`
  const text = yield* readOptional(file)
  if (text === undefined) return undefined
  const json = yield* Schema.decodeEffect(AdapterJson)(text).pipe(Effect.mapError(badConfig(file)))
  if (json.peft_type !== "LORA") return yield* unsupported(file, "peft_type", json.peft_type, "LORA")
  for (const [field, only] of Object.entries(refusedOptions)) {
    const found = json[field]
    if (found !== only && !isNothing(found)) return yield* unsupported(file, field, found, JSON.stringify(only))
  }
  const init = json.init_lora_weights
  if (typeof init === "string" && /^(pissa|olora|corda|loftq|lora_ga)/.test(init)) {
    return yield* unsupported(file, "init_lora_weights", init, "true: this one changes the weights of the base as well")
  }
  const targets = json.target_modules
  if (typeof targets === "string" && targets !== "all-linear") {
    return yield* unsupported(file, "target_modules", targets, `"all-linear", or a list of names`)
  }
  const name = json.base_model_name_or_path ?? undefined
  const revision = json.revision ?? undefined
  return {
    settings: {
      rank: json.r,
      alpha: json.lora_alpha,
      dropout: json.lora_dropout ?? 0,
      rslora: json.use_rslora ?? false,
      targets: targets === "all-linear" ? "all-linear" : (targets as ReadonlyArray<string>)
    },
    base: name === undefined ? undefined : { name, ...(revision === undefined ? {} : { revision }) }
  }
})

/** The folder of the model itself: `base` within the folder of an adapter, else the folder. */
export const modelFolder = Effect.fn("modelFolder")(function* (
  folder: string
): Effect.fn.Return<string, ModelError, FileSystem> {
  const described = yield* readAdapterConfig(folder)
  if (described === undefined) return folder
  const inside = `${folder}/${baseFolder}`
  if ((yield* readOptional(`${inside}/config.json`)) !== undefined) return inside
  const of = described.base === undefined ? "" : ` (it says: ${described.base.name})`
  return yield* fail(
    new FileProblem({
      file: folder,
      detail: `holds an adapter without the model that it belongs to${of}; give that as the parameter \`base\`, or put it into ${inside}`
    })
  )
})

const shape = (dims: ReadonlyArray<number>) => `[${dims.join(", ")}]`

/** Why a file's tensors are not those of the table. */
const mismatch = (
  checkpoint: Checkpoint,
  table: ReadonlyArray<ParameterSpec>,
  { rank }: LoraSettings
): BadSafetensors | undefined => {
  const file = checkpoint.source
  const parts = table.flatMap((spec) => spec.parts)
  for (const part of parts) {
    const found = checkpoint.tensors.get(part.name)?.shape
    const wrong = (detail: string) => new BadSafetensors({ file, tensor: part.name, detail })
    if (found === undefined) {
      return wrong(`is missing; ${adapterConfigFile} says that this layer has an adapter: fetch or save it again`)
    }
    const at = part.name.endsWith("lora_A.weight") ? 0 : 1
    if (found.length !== 2 || found[at] !== rank) {
      return wrong(`has shape ${shape(found)}, of another rank than ${adapterConfigFile} says (r: ${rank})`)
    }
    if (found[1 - at] !== part.shape[1 - at]) {
      return wrong(
        `has shape ${shape(found)} where the model's layer asks for ${shape(part.shape)}: it is an adapter of another model`
      )
    }
  }
  const known = new Set(parts.map(({ name }) => name))
  const extra = [...checkpoint.tensors.keys()].find((name) => !known.has(name))
  if (extra === undefined) return undefined
  return new BadSafetensors({ file, tensor: extra, detail: `belongs to no layer that ${adapterConfigFile} names` })
}

/** The adapter in a folder, float32 on the device as long as the scope; undefined where there is none. */
export const readAdapter = Effect.fn("readAdapter")(function* (
  folder: string,
  config: DecoderConfig
): Effect.fn.Return<Adapter | undefined, ModelError | DeviceError, Device | FileSystem | Scope.Scope> {
  const described = yield* readAdapterConfig(folder)
  if (described === undefined) return undefined
  const { settings } = described
  const table = yield* Effect.try({
    try: () => adapterParameters(config, settings),
    catch: (cause) => fail(new BadConfig({ file: `${folder}/${adapterConfigFile}`, detail: (cause as Error).message }))
  })
  const weights = yield* readAdapterWeights(folder, table, settings)
  return { settings, weights }
})

/** The tensors of a table from an `adapter_model.safetensors`. */
export const readAdapterWeights = Effect.fnUntraced(function* (
  folder: string,
  table: ReadonlyArray<ParameterSpec>,
  settings: LoraSettings
): Effect.fn.Return<Weights, ModelError | DeviceError, Device | FileSystem | Scope.Scope> {
  const checkpoint = yield* open(`${folder}/${adapterWeightsFile}`)
  const wrong = mismatch(checkpoint, table, settings)
  if (wrong !== undefined) return yield* fail(wrong)
  return yield* read(table, checkpoint)
})

/** `adapter_config.json` as PEFT reads it, with the names of the layers spelt out as PEFT does. */
const adapterJson = (config: DecoderConfig, settings: LoraSettings): string => {
  const layers = projections(config, settings).flatMap((projection) => projection.layers)
  const targets =
    settings.targets === "all-linear"
      ? [...new Set(layers.map(({ name }) => name.split(".").at(-1)!))]
      : settings.targets
  return `${JSON.stringify(
    {
      peft_type: "LORA",
      task_type: "CAUSAL_LM",
      base_model_name_or_path: baseFolder,
      bias: "none",
      fan_in_fan_out: false,
      inference_mode: true,
      init_lora_weights: true,
      lora_alpha: settings.alpha,
      lora_dropout: settings.dropout,
      modules_to_save: null,
      r: settings.rank,
      target_modules: [...targets].sort(),
      use_dora: false,
      use_rslora: settings.rslora
    },
    null,
    2
  )}\n`
}

/** Writes an adapter's two files into a folder that exists; equal adapters give equal bytes. */
export const writeAdapter = Effect.fn("writeAdapter")(function* (
  folder: string,
  config: DecoderConfig,
  { settings, weights }: Adapter
): Effect.fn.Return<void, ModelError | DeviceError, Device | FileSystem> {
  const fs = yield* FileSystem
  const file = `${folder}/${adapterConfigFile}`
  yield* fs.writeFileString(file, adapterJson(config, settings)).pipe(Effect.mapError(refused(file, "written")))
  yield* write(`${folder}/${adapterWeightsFile}`, adapterParameters(config, settings), weights)
})

/**
 * The files of a model's weights from one folder in another: as links to the same bytes where the file system can, so that policies
 * that differ by their adapters do not each take the room of the model.
 */
export const linkWeights = Effect.fn("linkWeights")(function* (
  from: string,
  to: string
): Effect.fn.Return<void, ModelError, FileSystem> {
  const fs = yield* FileSystem
  for (const name of yield* weightFiles(from)) {
    const target = `${to}/${name}`
    yield* Effect.gen(function* () {
      // A link to a link would point elsewhere from another folder (the hub's own cache has such).
      const source = yield* fs.realPath(`${from}/${name}`)
      yield* fs.remove(target, { force: true })
      yield* fs.link(source, target).pipe(Effect.catch(() => fs.copyFile(source, target)))
    }).pipe(Effect.mapError(refused(target, "written")))
  }
})
