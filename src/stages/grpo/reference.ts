/**
 * The reference policy of the KL: the policy that came in, or every so many steps a mixture with the policy as it is
 *
 *     reference <- (1 - mix) reference + mix policy
 *
 * (TRL's `sync_ref_model`; "Learn your reference model for real good alignment", arXiv 2404.09656). Without a KL there is none.
 */
import { mkdirSync } from "node:fs"
import { Effect } from "effect"
import { mixWeights } from "../../models/mixWeights.ts"
import * as PolicyModel from "../../models/Policy.ts"
import type { GrpoParams } from "./params.ts"

/** The reference of a policy that lies in `dir`; undefined where nothing asks for one. */
export const openReference = Effect.fn("grpo.reference")(function* (dir: string, params: GrpoParams) {
  if (params.klCoefficient === 0) return undefined
  const reference = yield* PolicyModel.load(dir)
  const { mix, syncEvery } = params.reference
  const moves = syncEvery > 0
  const folder = (checkpoint: string) => `${checkpoint}/reference`
  return {
    logprobs: reference.logprobs,
    /** After step `k` (from 0) of the policy. */
    afterStep: (k: number, policy: PolicyModel.Policy) =>
      moves && (k + 1) % syncEvery === 0 ? mixWeights(reference.weights, policy.weights, mix) : Effect.void,
    /** A reference that moves is a part of the stage's state. */
    save: Effect.fnUntraced(function* (checkpoint: string) {
      if (!moves) return
      yield* Effect.sync(() => mkdirSync(folder(checkpoint), { recursive: true }))
      yield* reference.save(folder(checkpoint))
    }),
    restore: Effect.fnUntraced(function* (checkpoint: string) {
      if (!moves) return
      const saved = yield* PolicyModel.load(folder(checkpoint))
      yield* mixWeights(reference.weights, saved.weights, 1)
    }, Effect.scoped)
  }
})
