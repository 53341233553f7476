/**
 * Triplets and judged pairs for the similarity estimator (OP-GRPO, arXiv 2602.20759, `train_st`).
 *
 * With a world, candidates share a name or a word and the judge is the world's labels with an error rate: a scratch
 * encoder has no useful cosines yet. With real situations, candidates are pairs of an answer's perspectives with cosine >=
 * `threshold` under a given encoder, keywords of the prompt masked; the judge is a *similarity rule*, cosine >=
 * `sameAbove`: a stand-in for the paper's LLM judge, and named as such. Anchor and positive are the pair of highest
 * cosine that is judged the same, the negative is the hardest true one: the nearest to the anchor that is judged
 * different. Rows without a positive or a negative are skipped, as the authors do. Every tenth situation is kept for
 * measuring and calibrating; without paraphrases in other hands, both thresholds are calibrated on the same pairs.
 *
 * Texts keep their "In the perspective of NAME, "; whether the estimator reads it is the `estimator` stage's choice.
 */
import { Effect, Schema } from "effect"
import { optional } from "../artifact/Kind.ts"
import { Encoder, JudgedPairs, Situations, Triplets, WorldFolder } from "../artifact/kinds.ts"
import type { JudgedPair, Situation, Triplet } from "../data/records.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { stripPerspective } from "../rewards/grammar.ts"
import { keywords, maskKeywords } from "../rewards/masking.ts"
import { type Rows, similarities } from "../rewards/matching.ts"
import { judgedPairs, triplet } from "../world/triplets.ts"
import type { World } from "../world/world.ts"
import { openEncoder } from "./models.ts"
import { readWorld } from "./world.ts"

export const TripletsParams = Param.struct({
  count: Param.int(4000, "triplets to train on, at most", { min: 1 }),
  heldOut: Param.int(400, "triplets to measure on, at most", { min: 1 }),
  pairs: Param.int(1600, "judged pairs to calibrate each threshold on, at most", { min: 4 }),
  judgeError: Param.number(0.075, "the world's judge: how often it says the opposite of the truth", { min: 0, max: 1 }),
  threshold: Param.number(0.75, "real situations: cosine from which a pair is a candidate", { min: -1, max: 1 }),
  sameAbove: Param.number(0.85, "real situations: the similarity rule's cosine for `same`", { min: -1, max: 1 })
})
type Settings = typeof TripletsParams.Type

interface Made {
  readonly triplets: ReadonlyArray<Triplet>
  readonly heldOut: ReadonlyArray<Triplet>
  readonly across: ReadonlyArray<JudgedPair>
  readonly within: ReadonlyArray<JudgedPair>
}

export class NothingToTeach extends Schema.TaggedError<NothingToTeach>()("NothingToTeach", { detail: Schema.String }) {
  override get message() {
    return `triplets: ${this.detail}`
  }
}

const prefix = "keep"

/** From the world: held-out triplets are judged without error, so that they measure the estimator and not the judge. */
const fromWorld = (world: World, seed: number, params: Settings): Made => {
  const plain = ({ anchor, negative, positive }: Triplet): Triplet => ({ anchor, positive, negative })
  const triplets = (first: number, count: number, errorRate: number) =>
    Array.from({ length: count }, (_, k) => plain(triplet(world, seed, first + k, { prefix, errorRate })))
  const pairs = (families: readonly ["triplets", "triplets" | "nli"]) =>
    Array.from({ length: Math.ceil(params.pairs / 4) }, (_, k) =>
      judgedPairs(world, seed, k, { prefix, families, errorRate: params.judgeError })
    )
      .flat()
      .slice(0, params.pairs)
      .map(({ left, right, same }): JudgedPair => ({ left, right, same }))
  return {
    triplets: triplets(0, params.count, params.judgeError),
    heldOut: triplets(params.count, params.heldOut, 0),
    across: pairs(["triplets", "nli"]),
    within: pairs(["triplets", "triplets"])
  }
}

/** The triplet of one answer, if it has one, and its judged pairs; `at` is where its perspectives' embeddings begin. */
const fromAnswer = ({ perspectives }: Situation, embeddings: Rows, params: Settings) => {
  const { data } = similarities(embeddings, embeddings)
  const n = perspectives.length
  const cosine = (i: number, j: number) => data[i * n + j]!
  const text = (i: number) => perspectives[i]!.text
  const candidates = perspectives
    .flatMap((_, i) =>
      perspectives.flatMap((__, j) => (i < j && cosine(i, j) >= params.threshold ? [[i, j] as const] : []))
    )
    .toSorted((a, b) => cosine(...b) - cosine(...a))
  const pairs = candidates.map(
    ([i, j]): JudgedPair => ({ left: text(i), right: text(j), same: cosine(i, j) >= params.sameAbove })
  )
  const found = candidates.find(([i, j]) => cosine(i, j) >= params.sameAbove)
  if (found === undefined) return { pairs, triplet: undefined }
  const [anchor, positive] = found
  const negative = perspectives
    .map((_, k) => k)
    .filter((k) => k !== anchor && k !== positive && cosine(anchor, k) < params.sameAbove)
    .toSorted((a, b) => cosine(anchor, b) - cosine(anchor, a))[0]
  return {
    pairs,
    triplet:
      negative === undefined ? undefined : { anchor: text(anchor), positive: text(positive), negative: text(negative) }
  }
}

const rowsAt = (all: Rows, first: number, count: number): Rows => ({
  rows: count,
  width: all.width,
  data: Float32Array.from({ length: count * all.width }, (_, i) => all.data[first * all.width + i]!)
})

const fromSituations = Effect.fnUntraced(function* (
  situations: ReadonlyArray<Situation>,
  encoder: string,
  params: Settings
) {
  const { embed } = yield* openEncoder(encoder)
  const texts = situations.flatMap(({ perspectives, prompt, situation }) => {
    const masked = keywords(situation ?? prompt)
    return perspectives.map(({ text }) => maskKeywords(stripPerspective(text), masked))
  })
  const embeddings = yield* embed(texts)
  let at = 0
  const answers = situations.map((situation) => {
    const own = rowsAt(embeddings, at, situation.perspectives.length)
    at += situation.perspectives.length
    return fromAnswer(situation, own, params)
  })
  // What is measured and calibrated on comes from answers that nothing is trained on.
  const [apart, taught] = [answers.filter((_, k) => k % 10 === 0), answers.filter((_, k) => k % 10 !== 0)]
  const triplets = taught.flatMap(({ triplet }) => triplet ?? []).slice(0, params.count)
  const heldOut = apart.flatMap(({ triplet }) => triplet ?? []).slice(0, params.heldOut)
  const pairs = apart.flatMap((answer) => answer.pairs).slice(0, params.pairs)
  if (triplets.length < 2 || pairs.length === 0) {
    return yield* new NothingToTeach({
      detail: `${situations.length} situations give ${triplets.length} triplets to train on and ${pairs.length} held-out pairs with cosine >= ${params.threshold}. Lower \`triplets.threshold\` or \`triplets.sameAbove\`, or give more situations.`
    })
  }
  const made: Made = { triplets, heldOut, across: pairs, within: pairs }
  return made
})

export const triplets = Stage.make("triplets", {
  module: import.meta.url,
  version: 1,
  params: TripletsParams,
  inputs: { world: optional(WorldFolder), situations: optional(Situations), encoder: optional(Encoder) },
  outputs: { triplets: Triplets, heldOut: Triplets, across: JudgedPairs, within: JudgedPairs },
  seeded: true,
  device: true,
  run: Effect.fn("stage.triplets")(function* ({ inputs, outputs, params, seed }) {
    let made: Made
    if (inputs.world) made = fromWorld(yield* readWorld(inputs.world.dir), seed, params)
    else if (inputs.situations && inputs.encoder) {
      made = yield* fromSituations(yield* inputs.situations.rows, inputs.encoder.dir, params)
    } else return yield* new NothingToTeach({ detail: "needs a world, or situations and an encoder" })
    yield* outputs.triplets.write(made.triplets)
    yield* outputs.heldOut.write(made.heldOut)
    yield* outputs.across.write(made.across)
    yield* outputs.within.write(made.within)
  })
})
