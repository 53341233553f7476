/**
 * The reference policy of the KL: the policy that came in, or every so many steps a mixture with the policy as it is
 *
 *     reference <- (1 - mix) reference + mix policy
 *
 * (TRL's `sync_ref_model`; "Learn your reference model for real good alignment", arXiv 2404.09656). Without a KL there is none.
 *
 * Of a policy whose adapter is trained it is no second model but the same one with other factors: none, where the adapter began
 * here; else those that came in. They are kept beside the policy's own, and replaced when the reference moves.
 */
import { mkdirSync } from "node:fs"
import { Effect } from "effect"
import { readAdapter, writeAdapter } from "../../models/adapterFolder.ts"
import { copyWeights, mixWeights } from "../../models/mixWeights.ts"
import * as PolicyModel from "../../models/Policy.ts"
import type { GrpoParams } from "./params.ts"

const folder = (checkpoint: string) => `${checkpoint}/reference`
const made = (checkpoint: string) =>
  Effect.sync(() => {
    mkdirSync(folder(checkpoint), { recursive: true })
    return folder(checkpoint)
  })

/** The reference of a policy that lay in `dir` before it is trained; undefined where nothing asks for one. */
export const openReference = Effect.fn("grpo.reference")(function* (
  dir: string,
  params: GrpoParams,
  policy: PolicyModel.Policy
) {
  if (params.klCoefficient === 0) return undefined
  const { adapter } = policy
  return adapter === undefined ? yield* secondModel(dir, params) : yield* otherFactors(params, policy, adapter)
})

const secondModel = Effect.fnUntraced(function* (dir: string, params: GrpoParams) {
  // An adapter that came in is part of the model here, as it is of the policy that is trained whole.
  const reference = yield* PolicyModel.load(dir, { lora: null })
  const { mix, syncEvery } = params.reference
  const moves = syncEvery > 0
  return {
    logprobs: (...asked: Parameters<PolicyModel.Policy["logprobs"]>) => reference.logprobs(...asked),
    /** After step `k` (from 0) of the policy. */
    afterStep: Effect.fnUntraced(function* (k: number, policy: PolicyModel.Policy) {
      if (moves && (k + 1) % syncEvery === 0) yield* mixWeights(reference.weights, policy.weights, mix)
    }),
    /** A reference that moves is a part of the stage's state. */
    save: Effect.fnUntraced(function* (checkpoint: string) {
      if (moves) yield* reference.save(yield* made(checkpoint))
    }),
    restore: Effect.fnUntraced(function* (checkpoint: string) {
      if (!moves) return
      const saved = yield* PolicyModel.load(folder(checkpoint), { lora: null })
      yield* mixWeights(reference.weights, saved.weights, 1)
    }, Effect.scoped)
  }
})

const otherFactors = Effect.fnUntraced(function* (
  params: GrpoParams,
  { config, logprobs }: PolicyModel.Policy,
  { isNew, settings, weights }: NonNullable<PolicyModel.Policy["adapter"]>
) {
  const { syncEvery } = params.reference
  const moves = syncEvery > 0
  // Those of a new adapter add nothing, so they are kept only where the reference will move.
  const factors = isNew && !moves ? null : yield* copyWeights(weights)
  return {
    logprobs: (...[sequences, asked]: Parameters<typeof logprobs>) =>
      logprobs(sequences, { ...asked, adapter: factors }),
    afterStep: Effect.fnUntraced(function* (k: number, policy: PolicyModel.Policy) {
      if (factors && moves && (k + 1) % syncEvery === 0) yield* mixWeights(factors, policy.adapter!.weights, 1)
    }),
    save: Effect.fnUntraced(function* (checkpoint: string) {
      if (factors && moves) yield* writeAdapter(yield* made(checkpoint), config, { settings, weights: factors })
    }),
    restore: Effect.fnUntraced(function* (checkpoint: string) {
      if (!factors || !moves) return
      const saved = yield* readAdapter(folder(checkpoint), config)
      if (saved) yield* mixWeights(factors, saved.weights, 1)
    }, Effect.scoped)
  }
})
