/**
 * The texts the estimator reads for a reward: references and candidates, with or without their prefix (pitfall P6),
 * masked by the keywords of the prompt (pitfall P1).
 */
import { type Answer, stripPerspective } from "./grammar.ts"
import { keywords, maskKeywords } from "./masking.ts"
import type { ProfileOptions } from "./profile.ts"

/** The prompt, as the situation alone and as the whole decoded chat prompt (equal where there is no template). */
export interface Prompt {
  readonly situation: string
  readonly chat: string
}

/** Whether the estimator was trained on perspectives with their "In the perspective of NAME, " or without. */
export type EstimatorPrefix = "strip" | "keep"

const prepare = (texts: ReadonlyArray<string>, masked: ReadonlySet<string> | null, strip: boolean) =>
  texts.map((text) => {
    const read = strip ? stripPerspective(text) : text
    return masked === null ? read : maskKeywords(read, masked)
  })

const strips = (options: ProfileOptions, trained: EstimatorPrefix) =>
  options.prefix === "as-trained" && trained === "strip"
const masks = (prompt: Prompt, options: ProfileOptions) =>
  keywords(options.maskSource === "situation" ? prompt.situation : prompt.chat)

/** What to embed for an answer's candidates, in their order. */
export const candidateTexts = (
  answer: Answer,
  prompt: Prompt,
  options: ProfileOptions,
  trained: EstimatorPrefix
): ReadonlyArray<string> => prepare(answer.candidates, masks(prompt, options), strips(options, trained))

/** What to embed for the references ("In the perspective of NAME, ..." each), in their order. */
export const referenceTexts = (
  references: ReadonlyArray<string>,
  prompt: Prompt,
  options: ProfileOptions,
  trained: EstimatorPrefix
): ReadonlyArray<string> =>
  prepare(references, options.maskReferences ? masks(prompt, options) : null, strips(options, trained))
