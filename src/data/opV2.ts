/**
 * OP-V2's answers (OP-GRPO, arXiv 2602.20759): perspectives, one a line, "In the perspective of NAME, EXPLANATION".
 * Read as the authors read them: the shortest text up to ", " is the name, the shortest text up to the next line that
 * begins so is the explanation; its line breaks become spaces.
 */
import type { PerspectiveText } from "./records.ts"

const perspective = /In the perspective of (.*?), (.*?)(?=\nIn the perspective of|$)/gs

/** The perspectives of an answer, in order; names may repeat. */
export const parseOpV2 = (answer: string): ReadonlyArray<PerspectiveText> =>
  [...answer.matchAll(perspective)].flatMap(([, rawName = "", rawExplanation = ""]) => {
    const name = rawName.trim()
    const explanation = rawExplanation.trim().replaceAll("\n", " ")
    return name === "" || explanation === "" ? [] : [perspectiveText(name, explanation)]
  })

/** A perspective with its text. */
export const perspectiveText = (name: string, explanation: string): PerspectiveText => ({
  name,
  explanation,
  text: `In the perspective of ${name}, ${explanation}`
})
