/**
 * Preference training: the warm start learns from pairs (DPO unless `preference.loss` says otherwise), from the world's judge
 * or from a file in one of TRL's dataset types.
 *
 *     warmStart ─┬──────────────────────> preference ─> evaluate
 *     preferences ┴─> contrast (TIS-DPO) ─┘
 *
 * Measured in training (`preference.evaluateEvery`), it is judged on a pair of each development situation, or on `heldOut` rows of the file.
 * TIS-DPO's contrastive pair is the warm start fine-tuned on the chosen and on the rejected answers.
 */
import type { Demonstrations, Policy, Preferences, RankedLists, UnpairedPreferences } from "overtone/artifact/kinds"
import * as Pipeline from "overtone/dsl/Pipeline"
import * as Param from "overtone/dsl/param"
import type { Ref } from "overtone/dsl/Stage"
import { ExamplesParams, examples } from "overtone/stages/examples"
import { PreferenceParams, preference } from "overtone/stages/preference"
import { preferenceRefusals } from "overtone/stages/preference/measuring"
import { preferenceSources, preferences } from "overtone/stages/preferences"
import { SftParams, sft } from "overtone/stages/sft"
import { evaluated, type Ground, groundParams, layGround } from "./ground.ts"
import { groundRefusals, nothingHeld, unmeasurable } from "./refusals.ts"

/** What stages of preferences put out. */
export interface PreferenceData {
  readonly pairs: Ref<typeof Preferences>
  readonly ranked: Ref<typeof RankedLists>
  readonly unpaired: Ref<typeof UnpairedPreferences>
  readonly top: Ref<typeof Demonstrations>
  readonly bottom: Ref<typeof Demonstrations>
  readonly heldOut?: Ref<typeof Preferences>
}

/** The sections of preference training. */
export const trainingParams = { preference: PreferenceParams, contrast: SftParams }
type TrainingParams = { readonly [K in keyof typeof trainingParams]: (typeof trainingParams)[K]["Type"] }

/** A policy trained on preferences, by a contrastive pair of policies where the loss wants one. */
export const preferring = (policy: Ref<typeof Policy>, data: PreferenceData, p: TrainingParams) => {
  const { bottom, top, ...rest } = data
  if (p.preference.loss.kind !== "tis-dpo") return preference({ policy, ...rest }, p.preference).policy
  const { policy: positive } = sft({ policy, data: top }, p.contrast, { node: "contrast.positive" })
  const { policy: negative } = sft({ policy, data: bottom }, p.contrast, { node: "contrast.negative" })
  return preference({ policy, ...rest, positive, negative }, p.preference).policy
}

const preferencesParams = Param.choice(
  "from",
  { world: preferenceSources.world, file: ExamplesParams },
  "world",
  "the world's judge, or a file of preferences in one of TRL's dataset types"
)

/** Pairs that are held out for a training that is measured on them; those of a file come with it anyway. */
export const whereJudged = (
  { evaluateEvery }: { readonly evaluateEvery: number },
  pairs: () => Ref<typeof Preferences>
) => (evaluateEvery > 0 ? { heldOut: pairs() } : {})

const preferencesOf = (
  { world }: Ground,
  p: (typeof preferencesParams)["Type"],
  training: TrainingParams["preference"],
  development: number
): PreferenceData => {
  if (p.from === "file") return examples({}, p)
  const held = { ...p, split: "development", pairs: development } as const
  return {
    ...preferences({ world }, { ...p, split: "train" }, { node: "preferences" }),
    ...whereJudged(training, () => preferences({ world }, held, { node: "heldOut" }).pairs)
  }
}

export default Pipeline.make(
  "dpo",
  { ...groundParams, preferences: preferencesParams, ...trainingParams },
  (p) => {
    const ground = layGround(p)
    const policy = preferring(
      ground.warmStart,
      preferencesOf(ground, p.preferences, p.preference, p.data.development),
      p
    )
    return evaluated(policy, ground, p.evaluate)
  },
  {
    check: (p) => [
      ...groundRefusals(p),
      ...unmeasurable("contrast", p.contrast),
      ...preferenceRefusals(p.preference, "preference"),
      ...(p.preferences.from === "file"
        ? nothingHeld("preference", p.preference, {
            count: p.preferences.heldOut,
            key: "preferences.heldOut",
            rows: "pairs"
          })
        : []),
      ...(p.preferences.from === "world" && p.data.source !== "world"
        ? [
            {
              path: "preferences.from",
              message: "only the synthetic world has a judge, and these situations come from a file",
              hint: "write preferences: { from: file, path: a file of pairs }"
            }
          ]
        : [])
    ]
  }
)
