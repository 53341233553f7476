/**
 * Keyword masking: words that an answer merely repeats from its prompt must not make it similar to anything.
 *
 * Keywords of a text are its lower-case alphanumeric tokens without English stop words; masking rewrites a sentence as
 * its word tokens joined by single spaces with every keyword replaced by `[KW]` (so punctuation goes, as in the
 * authors' code; without keywords a sentence stays as it is). What counts as the prompt, and whether references are
 * masked too, is pitfall P1: see `profile.ts`.
 */

/** NLTK's English stop words, those that are alphanumeric tokens (contractions can never equal one). */
const stopWords: ReadonlySet<string> = new Set(
  (
    "i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself " +
    "it its itself they them their theirs themselves what which who whom this that these those am is are was were be " +
    "been being have has had having do does did doing a an the and but if or because as until while of at by for with " +
    "about against between into through during before after above below to from up down in out on off over under " +
    "again further then once here there when where why how all any both each few more most other some such no nor not " +
    "only own same so than too very s t can will just don should now d ll m o re ve y ain aren couldn didn doesn hadn " +
    "hasn haven isn ma mightn mustn needn shan shouldn wasn weren won wouldn"
  ).split(" ")
)

/** What a keyword becomes. */
export const placeholder = "[KW]"

const word = /[\p{L}\p{N}_]+/gu

/** The keywords of a text: lower-case tokens of letters and digits that are no stop words. */
export const keywords = (text: string): ReadonlySet<string> => {
  const found = new Set<string>()
  for (const [token] of text.toLowerCase().matchAll(word))
    if (!token.includes("_") && !stopWords.has(token)) found.add(token)
  return found
}

/** The sentence's word tokens joined by spaces, keywords replaced; the sentence itself if there are no keywords. */
export const maskKeywords = (sentence: string, masked: ReadonlySet<string>): string =>
  masked.size === 0
    ? sentence
    : [...sentence.matchAll(word)].map(([token]) => (masked.has(token.toLowerCase()) ? placeholder : token)).join(" ")
