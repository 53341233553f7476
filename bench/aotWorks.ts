/** The programs that `bench/aot.ts` compiles: shapes of real models with nothing loaded, built as training and generation build them. */
import type { TensorSpec } from "../src/device/HostTensor.ts"
import { cardBatch, cardLoopBytes } from "../src/device/microBatch.ts"
import type { NumericClass } from "../src/device/numericClass.ts"
import { h100Memory } from "../src/device/xla/aot/targets.ts"
import { decodeProgram } from "../src/models/decode.ts"
import { decoderParameters, loopBytes } from "../src/models/decoder.ts"
import type { DecoderConfig } from "../src/models/decoderConfig.ts"
import { embed, encoderParameters } from "../src/models/encoder.ts"
import type { EncoderConfig } from "../src/models/encoderConfig.ts"
import { decodeFlops, trainingFlops } from "../src/models/flops.ts"
import { adapterParameters, type LoraSettings } from "../src/models/lora.ts"
import { applyProgram } from "../src/models/optimizer.ts"
import { countParameters, type ParameterSpec, parameterInputs, residentSpec } from "../src/models/parameters.ts"
import { policyLoss } from "../src/models/score.ts"
import { segmentProgram } from "../src/models/segment.ts"
import { backwardProgram } from "../src/models/Trainer.ts"
import { grpo } from "../src/objectives/grpo.ts"
import { sft } from "../src/objectives/sft.ts"
import { type Program, program } from "../src/tensor/Program.ts"
import { input } from "../src/tensor/Tensor.ts"
import { half, qwen, three } from "./shapes.ts"

export interface Made {
  readonly program: Program
  readonly sizes: Readonly<Record<string, number>>
  readonly dtype: NumericClass["dtype"]
  readonly stored: ReadonlySet<string>
  /** What stays on the devices, by the names of inputs: how it is laid out over several. */
  readonly residents: ReadonlyMap<string, TensorSpec>
  /** Operations by formula, for the sizes that an input has once it is padded. */
  readonly expected: (shapeOf: (input: string) => ReadonlyArray<number>) => {
    readonly products: number
    readonly attention: number
  }
  /** Bytes on the card beside the program's own arguments. */
  readonly resident: number
  /** Places of a row, as padded, and the width of a head: what tells a matrix of scores. */
  readonly scores: (shapeOf: (input: string) => ReadonlyArray<number>) => {
    readonly time: number
    readonly width: number
  }
}

export interface Work {
  /** @param sharing among how many cards a batch is shared out, and among how many weights and moments are */
  readonly make: (sharing: { readonly batch: number; readonly weights: number }) => Made
  /** The cards that share it; one where it is left out. */
  readonly mesh?: string
  /** The hosts that they are on, in equal shares; one where it is left out. */
  readonly hosts?: number
}

/** A table's parameters as tensors that stay, and what goes with each of them. */
const staying = (
  table: ReadonlyArray<ParameterSpec>,
  ...prefixes: ReadonlyArray<string>
): ReadonlyArray<readonly [string, TensorSpec]> =>
  table.flatMap((spec) =>
    ["", ...prefixes].map((prefix) => [`${prefix}${spec.name}`, residentSpec(spec, prefix)] as const)
  )

/** A decoder's weights and its caches, which the program writes in place. */
const decodingResidents = (config: DecoderConfig, { donate }: Program) =>
  new Map([
    ...staying(decoderParameters(config)),
    ...[...donate.values()].map((name) => [name, { name, dtype: "f32" as const, shape: [] }] as const)
  ])

/** The decoder of `exp bench` train17m. */
const small: DecoderConfig = {
  ...qwen({ hiddenSize: 384, intermediateSize: 1024, layers: 8, heads: 6, headSize: 64 }),
  vocabularySize: 8192,
  maxPositions: 1024,
  qkvBias: false
}

const bytes = (table: ReadonlyArray<ParameterSpec>, each: number) => countParameters(table) * each

interface Training {
  readonly rows: number
  readonly time: number
  /** Completion tokens of a row. */
  readonly answer: number
  readonly rematerialised: boolean
  readonly lora?: LoraSettings
  readonly dtype?: NumericClass["dtype"]
}

/** Forward and backward pass of a micro-batch, gradients added up in place. */
const training = (
  config: DecoderConfig,
  { answer, dtype = "bf16", lora, rematerialised, rows, time }: Training
): Work => ({
  make: (sharing) => {
    const base = decoderParameters(config)
    const table = lora === undefined ? base : adapterParameters(config, lora)
    const objective = lora === undefined ? sft() : grpo()
    const made = backwardProgram({
      name: "policy",
      table,
      ...(lora === undefined ? {} : { frozen: { table: base, weights: new Map() } }),
      build: (inputs) =>
        policyLoss(config, inputs, objective, {
          recompute: rematerialised,
          loop:
            rematerialised &&
            loopBytes(config, { bf16: dtype === "bf16", frozen: lora !== undefined }) <=
              cardLoopBytes(h100Memory, sharing.weights),
          lora,
          batch: cardBatch(h100Memory, sharing.batch)
        })
    })
    const tokens = rows * answer
    const rank = lora?.rank ?? null
    return {
      program: made,
      sizes: { time, groups: rows, tokens },
      dtype,
      stored: new Set(lora === undefined ? [] : base.map(({ name }) => name)),
      residents: new Map([...staying(table, "grad:"), ...(lora === undefined ? [] : staying(base))]),
      expected: (shapeOf) =>
        trainingFlops(config, {
          rows: shapeOf("ids")[1]!,
          time: shapeOf("ids")[2]!,
          tokens: shapeOf("targets")[0]!,
          rematerialised,
          rank
        }),
      resident: bytes(table, 8),
      scores: (shapeOf) => ({ time: shapeOf("ids").at(-1)!, width: config.headSize })
    }
  }
})

/** One AdamW step over everything that is trained. */
const optimizer = (config: DecoderConfig, lora?: LoraSettings): Work => ({
  make: () => {
    const table = lora === undefined ? decoderParameters(config) : adapterParameters(config, lora)
    return {
      program: applyProgram("policy", table, { learningRate: 1e-5 }, true),
      sizes: {},
      dtype: "bf16",
      stored: new Set(),
      residents: new Map(staying(table, "grad:", "m:", "v:")),
      expected: () => ({ products: 0, attention: 0 }),
      resident: lora === undefined ? 0 : bytes(decoderParameters(config), 2),
      scores: () => ({ time: Number.NaN, width: 0 })
    }
  }
})

/** One step of generation, weights and cache in bf16. */
const decoding = (config: DecoderConfig, rows: number, places: number): Work => ({
  make: () => {
    const made = decodeProgram(config, { greedy: false, topP: 0.95, banned: false })
    const caches = [...made.donate.values()]
    return {
      program: made,
      sizes: { rows, places },
      dtype: "bf16",
      stored: new Set([...decoderParameters(config).map(({ name }) => name), ...caches]),
      residents: decodingResidents(config, made),
      expected: (shapeOf) => decodeFlops(config, { rows: shapeOf("token")[0]!, places: shapeOf("cache:k:0")[2]! }),
      resident: 0,
      scores: () => ({ time: Number.NaN, width: 0 })
    }
  }
})

/** 32 steps of generation as a loop, as generation on XLA does them. */
const segment = (config: DecoderConfig, rows: number, places: number, stored: boolean): Work => ({
  make: () => {
    const steps = 32
    const made = segmentProgram({ ...config, cached: "bf16" }, { greedy: false, banned: false }, { steps, stops: 1 })
    return {
      program: made,
      sizes: { rows, places },
      dtype: "bf16",
      stored: new Set(stored ? decoderParameters(config).map(({ name }) => name) : []),
      residents: decodingResidents(config, made),
      expected: (shapeOf) => {
        const [rows, , places] = shapeOf("cache:k:0")
        const { attention, products } = decodeFlops(config, { rows: rows!, places: places! })
        return { attention: steps * attention, products: steps * products }
      },
      resident: 0,
      scores: () => ({ time: Number.NaN, width: 0 })
    }
  }
})

const minilm: EncoderConfig = {
  kind: "encoder",
  vocabularySize: 30_522,
  hiddenSize: 384,
  intermediateSize: 1536,
  layers: 6,
  heads: 12,
  maxPositions: 512,
  segments: 2,
  normEpsilon: 1e-12,
  labels: []
}

/** Sentence embeddings of a batch. */
const encoding = (config: EncoderConfig, batch: number, time: number): Work => ({
  make: () => {
    const parameters = parameterInputs(encoderParameters(config))
    const ids = input("ids", "i32", ["batch", "time"])
    const segments = input("segments", "i32", ["batch", "time"])
    const lengths = input("lengths", "i32", ["batch"])
    const weights = encoderParameters(config).filter(
      ({ name, shape }) => shape.length === 2 && name.includes("encoder.layer.")
    )
    const matrices = weights.reduce((n, { shape }) => n + shape[0]! * shape[1]!, 0)
    return {
      program: program("embed", { outputs: { embeddings: embed(config, parameters, { ids, segments, lengths }) } }),
      sizes: { batch, time },
      dtype: "bf16",
      stored: new Set(),
      residents: new Map(staying(encoderParameters(config))),
      expected: (shapeOf) => {
        const [rows, places] = shapeOf("ids")
        return {
          products: 2 * rows! * places! * matrices,
          attention: 4 * config.layers * rows! * config.hiddenSize * places! ** 2
        }
      },
      resident: 0,
      scores: (shapeOf) => ({ time: shapeOf("ids").at(-1)!, width: config.hiddenSize / config.heads })
    }
  }
})

const r32: LoraSettings = { rank: 32, alpha: 64, dropout: 0, rslora: false, targets: "all-linear" }
const long = { rows: 8, time: 2000, answer: 1500 }

export const works: Readonly<Record<string, Work>> = {
  "train17m full": training(small, { rows: 8, time: 1024, answer: 1023, rematerialised: false }),
  "train17m full f32": training(small, { rows: 8, time: 1024, answer: 1023, rematerialised: false, dtype: "f32" }),
  "train17m adamw": optimizer(small),
  "0.5B full": training(half, { ...long, rematerialised: true }),
  "0.5B adamw": optimizer(half),
  "0.5B lora": training(half, { ...long, rematerialised: true, lora: r32 }),
  "0.5B decode 64": decoding(half, 64, 2048),
  "0.5B decode 256": decoding(half, 256, 2048),
  "0.5B segment 64": segment(half, 64, 768, true),
  "0.5B segment 64 f32": segment(half, 64, 768, false),
  "0.5B segment 256": segment(half, 256, 768, true),
  "3B full": training(three, { ...long, rematerialised: true }),
  "3B adamw": optimizer(three),
  "3B lora": training(three, { ...long, rematerialised: true, lora: r32 }),
  "3B lora adamw": optimizer(three, r32),
  "3B decode 64": decoding(three, 64, 2048),
  "3B decode 256": decoding(three, 256, 2048),
  "3B segment 256": segment(three, 256, 768, true),
  "encoder 64 x 256": encoding(minilm, 64, 256),
  "train17m full, data=4": {
    ...training(small, { rows: 8, time: 1024, answer: 1023, rematerialised: false }),
    mesh: "data=4"
  },
  "train17m full, 2 hosts, data=8": {
    ...training(small, { rows: 8, time: 1024, answer: 1023, rematerialised: false }),
    mesh: "data=8",
    hosts: 2
  },
  "train17m full, 2 hosts, data=2,fsdp=4": {
    ...training(small, { rows: 8, time: 1024, answer: 1023, rematerialised: false }),
    mesh: "data=2,fsdp=4",
    hosts: 2
  },
  "train17m full, 2 hosts, fsdp=8": {
    ...training(small, { rows: 8, time: 1024, answer: 1023, rematerialised: false }),
    mesh: "fsdp=8",
    hosts: 2
  },
  "0.5B full, 2 hosts, data=2,fsdp=4": {
    ...training(half, { ...long, rematerialised: true }),
    mesh: "data=2,fsdp=4",
    hosts: 2
  },
  "0.5B full, data=4": { ...training(half, { ...long, rematerialised: true }), mesh: "data=4" },
  "0.5B lora, data=4": { ...training(half, { ...long, rematerialised: true, lora: r32 }), mesh: "data=4" },
  "0.5B decode 64, data=4": { ...decoding(half, 64, 2048), mesh: "data=4" },
  "3B full, fsdp=4": { ...training(three, { ...long, rematerialised: true }), mesh: "fsdp=4" },
  "3B full, fsdp=2,model=2": { ...training(three, { ...long, rematerialised: true }), mesh: "fsdp=2,model=2" },
  "3B lora, data=4": { ...training(three, { ...long, rematerialised: true, lora: r32 }), mesh: "data=4" },
  "3B adamw, fsdp=4": { ...optimizer(three), mesh: "fsdp=4" },
  "3B decode 64, data=2,model=2": { ...decoding(three, 64, 2048), mesh: "data=2,model=2" },
  "encoder 64 x 256, data=4": { ...encoding(minilm, 64, 256), mesh: "data=4" }
}
