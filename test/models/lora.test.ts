/** LoRA against PEFT: the forward pass, every derivative, twenty AdamW steps, masks of dropout, in the layout of its files. */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { Device } from "../../src/device/Device.ts"
import type { HostTensor } from "../../src/device/HostTensor.ts"
import { packSequences, scalar } from "../../src/models/batching.ts"
import { decoderParameters } from "../../src/models/decoder.ts"
import { decoderConfig } from "../../src/models/decoderConfig.ts"
import {
  adapterParameters,
  dropoutMasks,
  type LoraSettings,
  linearNames,
  maskName,
  projections,
  scaleOf
} from "../../src/models/lora.ts"
import type { ParameterSpec } from "../../src/models/parameters.ts"
import { policyLoss, scoreProgram } from "../../src/models/score.ts"
import { makeTrainer } from "../../src/models/Trainer.ts"
import { sft } from "../../src/objectives/sft.ts"
import { gradient } from "../../src/tensor/gradient.ts"
import { cpu } from "./device.ts"
import { golden } from "./folders.ts"
import { formula } from "./tiny.ts"
import { tinyConfig } from "./tinyPolicy.ts"

type Numbers = ReadonlyArray<number>
interface Case {
  readonly config: Readonly<Record<string, unknown>>
  readonly adapterConfig: {
    readonly r: number
    readonly lora_alpha: number
    readonly lora_dropout: number
    readonly use_rslora: boolean
    readonly target_modules: ReadonlyArray<string>
  }
  readonly file: Readonly<Record<string, Numbers>>
  readonly logprobs: Numbers
  readonly losses: Numbers
  readonly norms: Numbers
  readonly gradients: Readonly<Record<string, Numbers>>
  readonly after: Readonly<Record<string, Numbers>>
  readonly loggedAfter?: Numbers
}
const reference = golden<{
  ids: ReadonlyArray<Numbers>
  completion: ReadonlyArray<Numbers>
  optimizer: { learningRate: number; beta2: number; epsilon: number; weightDecay: number }
  cases: Readonly<Record<string, Case>>
}>("lora.json")

const near = (a: number, b: number, what: string) =>
  assert.isAtMost(Math.abs(a - b), 1e-4 * Math.max(1, Math.abs(b)), `${what}: ${a} against ${b}`)

/** Rows of the reference as prompt and completion, without the padding. */
const sequences = reference.ids.map((row, r) => {
  const first = reference.completion[r]!.indexOf(1)
  const last = reference.completion[r]!.lastIndexOf(1)
  return { prompt: row.slice(0, first), completion: row.slice(first, last + 1) }
})
/** Where the reference has each completion token's number: [rows, time - 1]. */
const places = reference.completion.flatMap((row, r) =>
  row.flatMap((wanted, t) => (wanted === 1 ? [r * (row.length - 1) + t - 1] : []))
)

const settingsOf = ({ adapterConfig }: Case): LoraSettings => ({
  rank: adapterConfig.r,
  alpha: adapterConfig.lora_alpha,
  dropout: adapterConfig.lora_dropout,
  rslora: adapterConfig.use_rslora,
  targets: adapterConfig.target_modules
})

const feedsOf = () => {
  const packed = packSequences(sequences, 0)
  const [rows, time] = packed.ids.shape
  return {
    ids: { ...packed.ids, shape: [1, rows!, time!] },
    at: packed.at,
    targets: packed.targets,
    rows: packed.rows,
    mask: { dtype: "f32" as const, shape: [packed.tokens], data: new Float32Array(packed.tokens).fill(1) },
    temperature: scalar(1),
    totalTokens: scalar(packed.tokens),
    totalRows: scalar(2)
  }
}

/** The masks of the reference, which has one place of a row more than we feed: the last token predicts nothing. */
const givenMasks = (table: ReturnType<typeof projections>, time: number): Record<string, HostTensor> =>
  Object.fromEntries(
    table.flatMap(({ columns, layers }) =>
      layers.map(({ name }) => {
        const s = [...name].reduce((sum, character) => sum + character.charCodeAt(0), 0)
        const data = new Float32Array(2 * time * columns)
        for (let row = 0; row < 2; row++) {
          for (let k = 0; k < time * columns; k++) {
            const i = row * (time + 1) * columns + k
            data[row * time * columns + k] = Math.sin(0.9 * i + s) > -0.6 ? 1.25 : 0
          }
        }
        return [maskName(name), { dtype: "f32", shape: [1, 2, time, columns], data }]
      })
    )
  )

/** Norm and first values of each tensor of the file, as the reference has them. */
const described = (spec: ParameterSpec, values: Float32Array) => {
  let at = 0
  return spec.parts.map((part) => {
    const own = Array.from(values.subarray(at, (at += part.shape.reduce((a, b) => a * b, 1))))
    return [part.name, [Math.hypot(...own), ...own.slice(0, 3)]] as const
  })
}

const onDevice = Effect.fnUntraced(function* (table: ReadonlyArray<ParameterSpec>, share = 1) {
  const device = yield* Device
  const weights = new Map<string, Effect.Success<ReturnType<typeof device.tensor>>>()
  for (const spec of table) {
    weights.set(
      spec.name,
      yield* device.tensor(
        { name: spec.name, dtype: "f32", shape: spec.shape },
        formula(spec).map((x) => share * x)
      )
    )
  }
  return weights
})

layer(cpu)("LoRA", (it) => {
  for (const [name, expected] of Object.entries(reference.cases)) {
    it.effect(`${name}: the first derivative and twenty steps of AdamW equal PEFT's`, () =>
      Effect.gen(function* () {
        const device = yield* Device
        const config = yield* decoderConfig(name, JSON.stringify(expected.config))
        const lora = settingsOf(expected)
        const table = adapterParameters(config, lora)
        const files = table.flatMap(({ parts }) => parts.map((part) => [part.name, part.shape] as const))
        assert.deepStrictEqual(Object.fromEntries(files.toSorted(([a], [b]) => (a < b ? -1 : 1))), expected.file)
        const frozen = { table: decoderParameters(config), weights: yield* onDevice(decoderParameters(config)) }
        const weights = yield* onDevice(table, 0.25)
        const feeds = { ...feedsOf(), ...(lora.dropout > 0 ? givenMasks(projections(config, lora), 6) : {}) }
        const trainer = yield* makeTrainer({
          name: "lora",
          table,
          weights,
          frozen,
          optimizer: reference.optimizer,
          build: (inputs) => {
            const graph = policyLoss(config, inputs, sft(), { lora })
            const by = gradient(
              graph.loss,
              table.map((spec) => inputs.of(spec.name))
            )
            const named = Object.fromEntries(by.map((tensor, i) => [table[i]!.name, tensor]))
            return { ...graph, outputs: { ...graph.outputs, ...named } }
          },
          beforeChange: Effect.void
        })
        for (const [step, loss] of expected.losses.entries()) {
          const outputs = yield* trainer.accumulate(feeds)
          if (step === 0) {
            places.forEach((place, i) => {
              near(Number(outputs["logprobs"]!.data[i]), expected.logprobs[place]!, `log-probability ${i}`)
            })
            for (const spec of table) {
              for (const [part, values] of described(spec, outputs[spec.name]!.data as Float32Array)) {
                values.forEach((value, i) => {
                  near(value, expected.gradients[part]![i]!, `derivative by ${part} ${i}`)
                })
              }
            }
          }
          const update = yield* trainer.apply
          near(update.loss, loss, `loss ${step}`)
          near(update.gradNorm, expected.norms[step]!, `gradient norm ${step}`)
        }
        for (const spec of table) {
          const { data } = yield* device.read(weights.get(spec.name)!)
          for (const [part, values] of described(spec, data as Float32Array)) {
            values.forEach((value, i) => {
              near(value, expected.after[part]![i]!, `${part} ${i} after`)
            })
          }
        }
        for (const [key, tensor] of frozen.weights) {
          const spec = frozen.table.find((one) => one.name === key)!
          assert.deepStrictEqual((yield* device.read(tensor)).data, formula(spec))
        }
        if (expected.loggedAfter === undefined) return
        const { ids, ...rest } = feedsOf()
        const score = yield* device.load(scoreProgram(config, lora))
        const outputs = yield* device.run(score, {
          ...Object.fromEntries([...frozen.weights, ...weights]),
          ids: { ...ids, shape: ids.shape.slice(1) },
          at: rest.at,
          targets: rest.targets,
          temperature: rest.temperature
        })
        places.forEach((place, i) => {
          near(Number(outputs["logprobs"]!.data[i]), expected.loggedAfter![place]!, `log-probability ${i} after`)
        })
      })
    )
  }

  it("refuses ranks, shares and targets that make no adapter, with the names that there are", () => {
    const good: LoraSettings = { rank: 2, alpha: 4, dropout: 0, rslora: false, targets: "all-linear" }
    const names = "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"
    assert.strictEqual(linearNames(tinyConfig).join(", "), names)
    const wrong = (settings: Partial<LoraSettings>) => () => adapterParameters(tinyConfig, { ...good, ...settings })
    assert.throws(
      wrong({ targets: ["q_proj", "lm_head"] }),
      RangeError,
      `"lm_head" is no linear layer of this model; valid: "all-linear", or names among ${names}`
    )
    assert.throws(wrong({ targets: [] }), RangeError, "no targets")
    assert.throws(wrong({ rank: 0 }), RangeError, "the rank is 0")
    assert.throws(wrong({ dropout: 1 }), RangeError, "dropout is 1")
    assert.strictEqual(scaleOf({ ...good, rank: 4, alpha: 8, rslora: true }), 4)
    const one = adapterParameters(tinyConfig, { ...good, targets: ["layers.1.mlp.up_proj"] })
    assert.deepStrictEqual(
      one.map(({ name, shape }) => [name, shape]),
      [
        ["model.layers.1.mlp.gate_up.lora_A", [2, 32]],
        ["model.layers.1.mlp.up_proj.lora_B", [64, 2]]
      ]
    )
  })

  it("dropout's masks: the share, scaled; the same for a row wherever it stands, others for others", () => {
    const lora: LoraSettings = { rank: 2, alpha: 4, dropout: 0.3, rslora: false, targets: ["q_proj", "k_proj"] }
    const rows = [0, 1, 2].map((sequence) => ({ sequence, first: sequence * 50, places: 50 }))
    const masks = dropoutMasks(tinyConfig, lora, 1, 0, rows, [3, 50])
    assert.lengthOf(Object.keys(masks), 4)
    const q = masks["dropout:model.layers.0.self_attn.q_proj"]!.data as Float32Array
    assert.deepStrictEqual([...new Set(q)].toSorted(), [0, Math.fround(1 / 0.7)])
    // 4800 draws: the deviation of the share is 0.0066.
    assert.closeTo(q.filter((value) => value === 0).length / q.length, 0.3, 0.03)
    const again = dropoutMasks(tinyConfig, lora, 1, 0, [{ sequence: 2, first: 7, places: 20 }], [1, 30])
    const row = again["dropout:model.layers.0.self_attn.q_proj"]!.data as Float32Array
    assert.deepStrictEqual(row.slice(7 * 32, 27 * 32), q.slice(2 * 50 * 32, 2 * 50 * 32 + 20 * 32))
    assert.isTrue([...row.slice(0, 7 * 32), ...row.slice(27 * 32)].every((value) => value === 0))
    const other = [
      masks["dropout:model.layers.0.self_attn.k_proj"]!,
      dropoutMasks(tinyConfig, lora, 1, 1, rows, [3, 50])["dropout:model.layers.0.self_attn.q_proj"]!,
      dropoutMasks(tinyConfig, lora, 2, 0, rows, [3, 50])["dropout:model.layers.0.self_attn.q_proj"]!
    ]
    for (const { data } of other) assert.notDeepEqual(data, q)
  })
})
