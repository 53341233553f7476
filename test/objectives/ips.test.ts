/** POPE's objective: by hand, against PyTorch, by its gradient, against src/ope on the same slates, and by its reductions. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { OnnxCpu } from "../../src/device/onnx/OnnxCpu.ts"
import { type IpsSettings, ips } from "../../src/objectives/ips.ts"
import { type Round, valueOf } from "../../src/ope/estimators.ts"
import { logPropensities } from "../../src/ope/propensity.ts"
import { logSetProbability } from "../../src/ope/setProbability.ts"
import { responseReward } from "../../src/ope/votes.ts"
import { logWeights } from "../../src/ope/weights.ts"
import { onDevice, runOnce } from "../device/support.ts"
import { root } from "../support/imports.ts"
import { evaluateTokens, namesOf, tokenProgram } from "./evaluate.ts"

const close = (a: number, b: number, tolerance = 1e-9) =>
  assert.isAtMost(Math.abs(a - b), tolerance * Math.max(1, Math.abs(b)), `${a} against ${b}`)

const mean = (values: ReadonlyArray<number>) => values.reduce((a, b) => a + b, 0) / values.length

/** A response: token log-probabilities of the policy, what the behaviour policy gives it, its votes and predicted votes. */
interface Response {
  readonly tokens: ReadonlyArray<number>
  readonly behaviour: { readonly logprob: number; readonly tokens: number }
  readonly vote: number
  readonly model: number
}

const factorial = (n: number): number => (n <= 1 ? 1 : n * factorial(n - 1))
const longest = 3

/** What src/ope makes of slates: rounds of the chosen weights, a query a slate. */
const roundsOf = (slates: ReadonlyArray<ReadonlyArray<Response>>, s: Required<IpsSettings>): ReadonlyArray<Round> =>
  slates.flatMap((slate, query) => {
    const policy = logPropensities(
      s.propensity,
      slate.map(({ tokens }) => ({ logprob: tokens.reduce((a, b) => a + b, 0), tokens: tokens.length }))
    )
    const behaviour = logPropensities(
      s.propensity,
      slate.map((r) => r.behaviour)
    )
    const reward = (vote: number, k: number) => responseReward({ ...s, votes: "raw" }, vote, policy[k]!, slate.length)
    const rewards = slate.map(({ vote }, k) => reward(vote, k))
    const modelled = slate.map(({ model }, k) => reward(model, k))
    const mass = policy.reduce((sum, logp) => sum + Math.exp(logp), 0)
    const direct = modelled.reduce((sum, r, k) => sum + (Math.exp(policy[k]!) / mass) * r, 0)
    const logs = logWeights(s.weights, s.set, policy, behaviour)
    return s.weights === "joint"
      ? [{ query, share: 1, logWeight: logs[0]!, reward: mean(rewards), model: mean(modelled), direct }]
      : logs.map((logWeight, k) => {
          const [r, m] = [rewards[k]!, modelled[k]!]
          return { query, share: 1 / slate.length, logWeight, reward: r, model: m, direct }
        })
  })

/** The batch of these slates, absent responses as empty rows. */
const batchOf = (slates: ReadonlyArray<ReadonlyArray<Response>>, s: Required<IpsSettings>) => {
  const slots = slates.flatMap((slate) =>
    Array.from({ length: s.groupSize }, (_, k) => ({ slate, k, response: slate[k] as Response | undefined }))
  )
  const behaviour = slots.map(({ k, response, slate }) => {
    const all = logPropensities(
      s.propensity,
      slate.map((r) => r.behaviour)
    )
    if (s.set === "plackett-luce" && s.weights === "joint") {
      const interleaved = Math.log(factorial(s.groupSize) / factorial(slate.length))
      return k === 0 ? logSetProbability(s.set, all) + interleaved : 0
    }
    return response === undefined ? 0 : all[k]!
  })
  return {
    logprobs: slots.map(({ response }) => Array.from({ length: longest }, (_, j) => response?.tokens[j] ?? 0)),
    mask: slots.map(({ response }) =>
      Array.from({ length: longest }, (_, j) => (j < (response?.tokens.length ?? 0) ? 1 : 0))
    ),
    inputs: {
      present: slots.map(({ response }) => (response ? 1 : 0)),
      distinct: slots.map(({ response }) => (response ? 1 : 0)),
      behaviour,
      votes: slots.map(({ response }) => response?.vote ?? 0),
      model: slots.map(({ response }) => response?.model ?? 0)
    }
  }
}

const defaults: Required<IpsSettings> = {
  groupSize: 3,
  weights: "joint",
  set: "product",
  propensity: "length-normalised",
  cu: "prob",
  diversity: "soft-entropy",
  lambda: 1,
  estimator: "plain",
  clip: Number.POSITIVE_INFINITY
}

/** The batch with the sums of a pass before, which some estimators want. */
const fed = (slates: ReadonlyArray<ReadonlyArray<Response>>, s: Required<IpsSettings>) => {
  const rounds = roundsOf(slates, s)
  const weights = rounds.map(({ logWeight, share }) => share * Math.min(Math.exp(logWeight), s.clip))
  const weightSum = weights.reduce((a, b) => a + b, 0)
  const value = rounds.reduce((sum, { reward }, k) => sum + weights[k]! * reward, 0) / weightSum
  const batch = batchOf(slates, s)
  return { ...batch, inputs: { ...batch.inputs, weightSum, value } }
}
const run = (slates: ReadonlyArray<ReadonlyArray<Response>>, s: Required<IpsSettings>) =>
  evaluateTokens(ips(s), fed(slates, s))

const logprob = fc.double({ min: -3, max: -0.05, noNaN: true })
const response = fc.record({
  tokens: fc.array(logprob, { minLength: 1, maxLength: longest }),
  behaviour: fc.record({
    logprob: fc.double({ min: -5, max: -0.1, noNaN: true }),
    tokens: fc.integer({ min: 1, max: 4 })
  }),
  vote: fc.double({ min: 0, max: 2, noNaN: true }),
  model: fc.double({ min: 0, max: 2, noNaN: true })
})
const slates = fc.array(fc.array(response, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 3 })

const settings = fc
  .record({
    weights: fc.constantFrom("joint" as const, "independent" as const),
    set: fc.constantFrom("product" as const, "plackett-luce" as const),
    propensity: fc.constantFrom("sequence" as const, "length-normalised" as const, "pool-normalised" as const),
    cu: fc.constantFrom("prob" as const, "logprob" as const, "label" as const),
    diversity: fc.constantFrom("soft-entropy" as const, "p-log-p" as const),
    lambda: fc.constantFrom(0, 0.7),
    estimator: fc.constantFrom("plain" as const, "self-normalised" as const, "doubly-robust" as const)
  })
  .filter(({ propensity, set }) => !(set === "plackett-luce" && propensity === "length-normalised"))
  .map((chosen): Required<IpsSettings> => ({ ...defaults, ...chosen }))

/** Plackett-Luce under `sequence` needs probabilities that sum to less than 1: every response gets less likely. */
const tamed = (list: ReadonlyArray<ReadonlyArray<Response>>, { set, propensity }: Required<IpsSettings>) =>
  set === "plackett-luce" && propensity === "sequence"
    ? list.map((slate) =>
        slate.map((r) => ({
          ...r,
          tokens: r.tokens.with(0, r.tokens[0]! - 1.5),
          behaviour: { ...r.behaviour, logprob: r.behaviour.logprob - 1.5 }
        }))
      )
    : list

interface Golden {
  readonly sizes: ReadonlyArray<number>
  readonly tokens: ReadonlyArray<ReadonlyArray<number>>
  readonly behaviour: ReadonlyArray<Response["behaviour"]>
  readonly votes: ReadonlyArray<number>
  readonly model: ReadonlyArray<number>
  readonly cases: Readonly<
    Record<
      string,
      {
        readonly settings: Omit<Required<IpsSettings>, "clip" | "groupSize"> & { readonly clip: number | null }
        readonly value: number
        readonly gradient: ReadonlyArray<ReadonlyArray<number>>
      }
    >
  >
}
const golden = JSON.parse(readFileSync(join(root, "test/golden/objectives/ips.json"), "utf8")) as Golden

describe("equals PyTorch's own gradient of the estimate, in float64 and in float32 on the device", () => {
  const starts = golden.sizes.map((_, i) => golden.sizes.slice(0, i).reduce((a, b) => a + b, 0))
  const given = golden.sizes.map((size, i) =>
    Array.from({ length: size }, (_, k): Response => {
      const at = starts[i]! + k
      const [tokens, behaviour] = [golden.tokens[at]!, golden.behaviour[at]!]
      return { tokens, behaviour, vote: golden.votes[at]!, model: golden.model[at]! }
    })
  )
  it.each(Object.keys(golden.cases))("%s", async (name) => {
    const { gradient, settings, value } = golden.cases[name]!
    const s = { ...settings, groupSize: 3, clip: settings.clip ?? Number.POSITIVE_INFINITY }
    const { feeds, program, read } = tokenProgram(ips(s), fed(given, s))
    const onCpu = read(await onDevice(OnnxCpu.layer({ threads: 1 }))(runOnce(program, feeds)))
    for (const [found, tolerance] of [
      [run(given, s), 1e-9],
      [onCpu, 1e-5]
    ] as const) {
      close(found.loss, -value, tolerance)
      close(found.log("value"), value, tolerance)
      given.forEach((slate, i) => {
        slate.forEach(({ tokens }, k) => {
          tokens.forEach((_, j) => {
            close(found.by[(i * 3 + k) * longest + j]!, gradient[starts[i]! + k]![j]!, tolerance)
          })
        })
      })
    }
  })
})

describe("ips", () => {
  it("by hand: two responses, joint weight 2, votes 1/4 and 3/4 of the slate", () => {
    // p = 1/2, 1/4 in one token each; p0 = 1/4, 1/4; v = K hh = 1/2, 3/2; lambda 0
    // W = 2; R = (1/2 * 1/2 + 3/2 * 1/4) / 2 = .3125; V = .625
    // dV / d log p_1 = W (R + v_1 p_1 / 2) = 2 (.3125 + .125) = .875; by the second 2 (.3125 + .1875) = 1
    const l = Math.log
    const slate = [
      { tokens: [l(1 / 2)], behaviour: { logprob: l(1 / 4), tokens: 1 }, vote: 0.5, model: 0 },
      { tokens: [l(1 / 4)], behaviour: { logprob: l(1 / 4), tokens: 1 }, vote: 1.5, model: 0 }
    ]
    const found = run([slate], { ...defaults, groupSize: 2, lambda: 0 })
    close(found.loss, -0.625)
    close(found.log("value"), 0.625)
    close(found.log("log_ratio"), l(2) / 2)
    close(found.by[0]!, -0.875)
    close(found.by[longest]!, -1)
    // independent: (2 * 1/4 + 1 * 3/8) / 2; cut at 1.5: (1.5 * 1/4 + 3/8) / 2, and half of the weights were cut
    const single = { ...defaults, groupSize: 2, lambda: 0, weights: "independent" } as const
    close(run([slate], single).log("value"), 0.4375)
    close(run([slate], { ...single, clip: 1.5 }).log("value"), 0.375)
    close(run([slate], { ...single, clip: 1.5 }).log("clip_ratio"), 0.5)
    // where a weight is cut only the reward's gradient is left: 1.5 * (1/2 * 1/2) / 2
    close(run([slate], { ...single, clip: 1.5 }).by[0]!, -0.1875)
  })

  it("is the estimate of src/ope on the same slates, absent responses or not, for every setting", () => {
    fc.assert(
      fc.property(slates, settings, (list, s) => {
        const given = tamed(list, s)
        const name = { plain: "ips", "self-normalised": "snips", "doubly-robust": "dr" } as const
        const expected = valueOf(name[s.estimator], roundsOf(given, s))
        close(run(given, s).log("value"), expected, 1e-6)
      }),
      { seed: 5, numRuns: 400 }
    )
  })

  it("has the derivative of that estimate, for every setting", () => {
    const name = { plain: "ips", "self-normalised": "snips", "doubly-robust": "dr" } as const
    fc.assert(
      fc.property(slates, settings, (list, s) => {
        const given = tamed(list, s)
        const { by } = run(given, s)
        const width = 1e-5
        const at = (slate: number, k: number, j: number, by: number) =>
          given.map((one, i) =>
            i === slate ? one.map((r, m) => (m === k ? { ...r, tokens: r.tokens.with(j, r.tokens[j]! + by) } : r)) : one
          )
        given.forEach((slate, i) => {
          slate.forEach(({ tokens }, k) => {
            tokens.forEach((_, j) => {
              const value = (by: number) => valueOf(name[s.estimator], roundsOf(at(i, k, j, by), s))
              const slope = (value(width) - value(-width)) / (2 * width)
              close(by[(i * s.groupSize + k) * longest + j]!, -slope, 2e-4)
            })
          })
        })
      }),
      { seed: 6, numRuns: 150 }
    )
  })

  it("the policy that logged: weight 1, value the mean reward, and a constant model leaves label gradients to what differs from it", () => {
    const of = (vote: number): Response => ({
      tokens: [-1, -0.5],
      behaviour: { logprob: -1.5, tokens: 2 },
      vote,
      model: 1
    })
    const label = { ...defaults, groupSize: 2, cu: "label", lambda: 0, weights: "independent" } as const
    const list = [
      [of(0), of(2)],
      [of(1), of(1)]
    ]
    close(run(list, label).log("value"), 1)
    close(run(list, label).log("weight"), 1)
    // without a model everything that was voted for gets likelier; with one, what earns less than it gets less likely
    const plain = run(list, label).by.map((x) => Math.sign(x) + 0)
    assert.deepStrictEqual(plain, [0, 0, 0, -1, -1, 0, -1, -1, 0, -1, -1, 0])
    const robust = run(list, { ...label, estimator: "doubly-robust" }).by.map((x) => Math.sign(x) + 0)
    assert.deepStrictEqual(robust, [1, 1, 0, -1, -1, 0, 0, 0, 0, 0, 0, 0])
    // and equal votes move a self-normalised estimate nowhere
    const equal = run([[of(1), of(1)]], { ...label, estimator: "self-normalised" })
    assert.deepStrictEqual(
      equal.by.map((x) => Math.abs(x) < 1e-12),
      new Array(6).fill(true)
    )
  })

  it("a slate of one has the same joint and independent weight", () => {
    fc.assert(
      fc.property(response, settings, (one, s) => {
        const [given] = tamed([[one]], s)
        const [joint, independent] = (["joint", "independent"] as const).map((weights) =>
          run([given!], { ...s, weights })
        )
        close(joint!.loss, independent!.loss)
        joint!.by.forEach((x, i) => {
          close(x, independent!.by[i]!)
        })
      }),
      { seed: 8, numRuns: 60 }
    )
  })

  it("adds up over micro-batches of slates", () => {
    fc.assert(
      fc.property(
        slates.filter((list) => list.length > 1),
        settings,
        (list, s) => {
          const given = tamed(list, s)
          const rounds = roundsOf(given, s)
          const weights = rounds.map(({ logWeight, share }) => share * Math.exp(logWeight))
          const weightSum = weights.reduce((a, b) => a + b, 0)
          const value = rounds.reduce((sum, { reward }, k) => sum + weights[k]! * reward, 0) / weightSum
          const part = (some: typeof given) => {
            const batch = batchOf(some, s)
            return evaluateTokens(ips(s), {
              ...batch,
              inputs: { ...batch.inputs, weightSum, value },
              totalRows: given.length * s.groupSize
            })
          }
          const [whole, first, rest] = [part(given), part(given.slice(0, 1)), part(given.slice(1))]
          for (const log of ["loss", "value", "log_ratio", "weight", "clip_ratio"]) {
            close(whole.log(log), first.log(log) + rest.log(log), 1e-9)
          }
          whole.by.slice(s.groupSize * longest).forEach((x, i) => {
            close(x, rest.by[i]!, 1e-9)
          })
        }
      ),
      { seed: 7, numRuns: 100 }
    )
  })

  it("weights that overflow stay finite", () => {
    const far = [[{ tokens: [-1], behaviour: { logprob: -4000, tokens: 1 }, vote: 1, model: 0 }]]
    const found = run(far, { ...defaults, groupSize: 1, propensity: "sequence" })
    assert.isTrue(Number.isFinite(found.loss) && found.by.every(Number.isFinite))
    assert.strictEqual(found.log("clip_ratio"), 1)
  })

  it("asks for no more than its settings need, and refuses settings that make no sense", () => {
    assert.deepStrictEqual(namesOf(ips({ groupSize: 2 })), ["present", "behaviour", "votes"])
    assert.deepStrictEqual(namesOf(ips({ groupSize: 2, estimator: "self-normalised" })).slice(3), [
      "weightSum",
      "value"
    ])
    assert.throws(() => ips({ groupSize: 0 }), /at least one response/)
    assert.throws(() => ips({ groupSize: 2, clip: 0 }), /> 0/)
    assert.throws(() => ips({ groupSize: 17, set: "plackett-luce", propensity: "sequence" }), /at most \[16\]/)
    assert.throws(() => ips({ groupSize: 2, set: "plackett-luce" }), /no probabilities/)
  })
})
