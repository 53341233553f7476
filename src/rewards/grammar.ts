/**
 * The grammar of an OP-GRPO answer, read from text (arXiv 2602.20759 and the authors' code):
 *
 *     <core perspectives>
 *     In the perspective of {name}, {explanation}
 *     In the perspective of {name}, {explanation}
 *     </core perspectives>
 *     <summary> {one paragraph} </summary>
 *
 * The *strict form* is exactly these two blocks in this order, both non-empty, with only white space around them; tags
 * in any case, any white space inside "core perspectives". Where it fails, readers fall back: coverage and uniqueness
 * read the whole text, the format part whatever blocks it can find. The text of the Overton world (tokens joined by
 * single spaces) and the text of real models are read by the same code.
 */

/** An answer, read. */
export interface Answer {
  readonly text: string
  /** The authors' strict form, or with `tagsOnce` also every tag exactly once. */
  readonly strict: boolean
  /** The core block under the strict form, else the whole text; trimmed. */
  readonly core: string
  /** The perspectives of `core`: split at line starts "In/From the perspective of", trimmed, none empty. */
  readonly candidates: ReadonlyArray<string>
  /** First core block found anywhere, else the whole text; what the format part reads. */
  readonly looseCore: string
  /** First summary found anywhere, else the whole text; what the format part reads. */
  readonly looseSummary: string
  /** The summary, or null if there is no summary block. */
  readonly summary: string | null
}

const strictForm =
  /^\s*<core\s+perspectives>\s*(?<core>.+?)\s*<\/core\s+perspectives>\s*<summary>\s*(?<summary>.+?)\s*<\/summary>\s*$/is
const coreBlock = /<core\s+perspectives>\s*(.*?)\s*<\/core\s+perspectives>/is
const summaryBlock = /<summary>\s*(.*?)\s*<\/summary>/is
const anyTag = /<\/?(?:core\s+perspectives|summary)>/gi
const lineStart = /(?:^|\n)(?=(?:From|In) the perspective of )/i
const named = /(?:^|\s)(?:From|In) the perspective of ([^,.\n]+)/i
const prefix = /^(?:In|From) the perspective of [^,]+,\s*/i

/**
 * Reads an answer. By default the strict form is the authors' regular expression, which a second block inside the
 * first can pass; with `tagsOnce` each of the four tags may occur once only.
 */
export const parseAnswer = (text: string, options: { readonly tagsOnce?: boolean } = {}): Answer => {
  const form = strictForm.exec(text)
  const core = form?.groups?.["core"]?.trim() ?? ""
  const summary = form?.groups?.["summary"]?.trim() ?? ""
  const tags = text.match(anyTag)?.length ?? 0
  const strict = core !== "" && summary !== "" && (!options.tagsOnce || tags === 4)
  const block = coreBlock.exec(text)
  const paragraph = summaryBlock.exec(text)
  const read = strict ? core : text.trim()
  return {
    text,
    strict,
    core: read,
    candidates: splitPerspectives(read),
    looseCore: (block?.[1] ?? text).trim(),
    looseSummary: (paragraph?.[1] ?? text).trim(),
    summary: paragraph ? paragraph[1]!.trim() : null
  }
}

/** Splits at line starts that begin with "In/From the perspective of"; pieces are trimmed, empty ones dropped. */
export const splitPerspectives = (text: string): ReadonlyArray<string> =>
  text
    .split(lineStart)
    .map((piece) => piece.trim())
    .filter((piece) => piece !== "")

/** The name a perspective goes by ("In the perspective of NAME, ..."), as written; null if it names none. */
export const perspectiveName = (perspective: string): string | null => {
  const name = named.exec(perspective)?.[1]?.trim()
  return name === undefined || name === "" ? null : name
}

/** A perspective without its leading "In the perspective of NAME, "; unchanged if it has no such beginning. */
export const stripPerspective = (perspective: string): string => perspective.replace(prefix, "")

/** An answer in the strict form: what a warm start is taught to write. */
export const writeAnswer = (lines: ReadonlyArray<string>, summary: string): string =>
  `<core perspectives>\n${lines.join("\n")}\n</core perspectives>\n<summary>\n${summary}\n</summary>`
