/**
 * Logged slates of the world, and what their votes prefer: the ground of POPE's baselines from a warm start on. On a log of one's
 * own they are `method`s of `pope-logged`, beside POPE.
 */
import * as Param from "overtone/dsl/param"
import { preferenceSources, preferences } from "overtone/stages/preferences"
import { SlatesParams, slates } from "overtone/stages/slates"
import type { Ground, GroundParams } from "./ground.ts"

export const voteParams = {
  slates: SlatesParams,
  preferences: Param.struct(preferenceSources.slates, "what the votes of a slate say of its responses")
}
type VoteParams = { readonly [K in keyof typeof voteParams]: (typeof voteParams)[K]["Type"] }

/** What people preferred in the log of a world; `held`: the same of situations that nobody trains on. */
export const voted = ({ world }: Ground, p: VoteParams) => {
  if (world === undefined) throw new TypeError("only the synthetic world logs slates: set `data.source: world`")
  const { development, train } = slates({ world }, p.slates)
  const lessons = { from: "slates", ...p.preferences } as const
  return {
    lessons: preferences({ slates: train }, lessons, { node: "preferences" }),
    held: () => preferences({ slates: development }, lessons, { node: "heldOut" })
  }
}

/** Refuses situations from a file: nobody has voted on answers to them. */
export const voteRefusals = ({ data }: GroundParams) =>
  data.source === "world"
    ? []
    : [
        {
          path: "data.source",
          message: "only the synthetic world logs slates with votes, and these situations come from a file",
          hint: "for a log of your own take the pipeline pope-logged with method: sft-top or preference; for pairs from a file dpo with preferences: { from: file, path: ... }"
        }
      ]
