/**
 * The ground that the OP-GRPO pipeline and its controls stand on: situations, a similarity estimator, a warm start and
 * the judges of the evaluation. Built by one function, so arms that share parameters share tasks.
 *
 *     data ─┬─> policy ─> pretrain ─> warmStart ─> ...
 *           ├─> triplets ─> estimator
 *           └─> nli
 */
import type { AnyKind } from "overtone/artifact/Kind"
import type { Classifier, Demonstrations, Encoder, Policy, Situations, WorldFolder } from "overtone/artifact/kinds"
import * as Param from "overtone/dsl/param"
import type { Ref } from "overtone/dsl/Stage"
import { BasePolicyParams, basePolicy } from "overtone/stages/basePolicy"
import { DatasetParams, dataset } from "overtone/stages/dataset"
import { EncoderParams, encoder } from "overtone/stages/encoder"
import { EstimatorParams, estimator } from "overtone/stages/estimator"
import { EvaluateParams, evaluate } from "overtone/stages/evaluate"
import { generate } from "overtone/stages/generate"
import { NliParams, nli } from "overtone/stages/nli"
import { SftParams, sft } from "overtone/stages/sft"
import { TripletsParams, triplets } from "overtone/stages/triplets"
import { WorldParams, world } from "overtone/stages/world"

/** The parameter sections of the ground; a pipeline adds its own. */
export const groundParams = {
  data: Param.choice(
    "source",
    { world: WorldParams, file: DatasetParams },
    "world",
    "the synthetic world, or a file of situations with their perspectives"
  ),
  policy: BasePolicyParams,
  pretrain: SftParams,
  encoder: EncoderParams,
  triplets: TripletsParams,
  estimator: EstimatorParams,
  nli: NliParams,
  warmStart: SftParams,
  evaluate: EvaluateParams
}

export type GroundParams = { readonly [K in keyof typeof groundParams]: (typeof groundParams)[K]["Type"] }

export interface Ground {
  readonly train: Ref<typeof Situations>
  /** What the evaluation asks: the split that `evaluate.split` names. */
  readonly held: Ref<typeof Situations>
  /** What a training may be measured on; `whereMeasured` gives it only to one that asks. */
  readonly development: Ref<typeof Situations>
  readonly demonstrations: Ref<typeof Demonstrations>
  readonly developmentDemonstrations: Ref<typeof Demonstrations>
  readonly warmStart: Ref<typeof Policy>
  readonly estimator: Ref<typeof Encoder>
  readonly nli: Ref<typeof Classifier> | undefined
  readonly world: Ref<typeof WorldFolder> | undefined
}

/** Development data for a training that is measured on it, and no dependency for one that is not. */
export const whereMeasured = <K extends AnyKind>(params: { readonly evaluateEvery: number }, data: () => Ref<K>) =>
  params.evaluateEvery > 0 ? { development: data() } : {}

/** On the synthetic world: everything from scratch, the pretraining on the world's own text. */
const onWorld = (p: GroundParams, settings: Extract<GroundParams["data"], { readonly source: "world" }>): Ground => {
  const made = world({}, settings)
  const { policy: base } = basePolicy({ world: made.world }, p.policy)
  const held = () => made.developmentDemonstrations
  const { policy: pretrained } = sft(
    { policy: base, data: made.pretraining, ...whereMeasured(p.pretrain, held) },
    p.pretrain
  )
  const { policy: warmStart } = sft(
    { policy: pretrained, data: made.demonstrations, ...whereMeasured(p.warmStart, held) },
    p.warmStart
  )
  return {
    train: made.train,
    held: made[p.evaluate.split],
    development: made.development,
    demonstrations: made.demonstrations,
    developmentDemonstrations: made.developmentDemonstrations,
    warmStart,
    estimator: estimator(triplets({ world: made.world }, p.triplets), p.estimator).estimator,
    nli: nli({ pairs: made.nliPairs }, p.nli).classifier,
    world: made.world
  }
}

/** On real situations: a checkpoint as policy, a pretrained encoder as estimator, fine-tuned if it has steps. */
const onFile = (p: GroundParams, source: Extract<GroundParams["data"], { readonly source: "file" }>): Ground => {
  const made = dataset({}, source)
  const { policy: base } = basePolicy({}, p.policy)
  const { policy: warmStart } = sft(
    {
      policy: base,
      data: made.demonstrations,
      ...whereMeasured(p.warmStart, () => made.developmentDemonstrations)
    },
    p.warmStart
  )
  const { encoder: pretrained } = encoder({}, p.encoder)
  const taught =
    p.estimator.steps > 0 ? triplets({ situations: made.train, encoder: pretrained }, p.triplets) : undefined
  return {
    train: made.train,
    held: made[p.evaluate.split],
    development: made.development,
    demonstrations: made.demonstrations,
    developmentDemonstrations: made.developmentDemonstrations,
    warmStart,
    estimator: estimator({ base: pretrained, ...taught }, p.estimator).estimator,
    nli: undefined,
    world: undefined
  }
}

export const layGround = (p: GroundParams): Ground =>
  p.data.source === "world" ? onWorld(p, p.data) : onFile(p, p.data)

/** Answers of a policy to the held-out situations, and what they are worth. */
export const evaluated = (policy: Ref<typeof Policy>, ground: Ground, params: GroundParams["evaluate"]) => {
  const { held: situations, estimator, nli, world } = ground
  const { completions } = generate({ policy, situations }, params)
  const { report } = evaluate({ completions, situations, estimator, nli, world }, params)
  return { completions, report }
}
