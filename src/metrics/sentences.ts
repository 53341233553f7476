/**
 * Splitting texts for evaluation.
 *
 * `splitCandidates` and `splitReferences` are OP-GRPO's (`summary_eval/eval_pipeline.py`): citation marks "[3]" become
 * line breaks; candidates are cut at every sentence mark (so "1. " is a candidate of its own, as in the authors' logs),
 * references before every "In/From the perspective of", wherever it stands.
 *
 * `splitSentences` is the Europarl splitter (Koehn and Schroeder) that the NLI evaluation uses: a break where an end
 * mark is followed by something that can begin a sentence, unless a known abbreviation or an acronym stands there.
 */

const citation = /\s*\[\d+\]/g
const trimmed = (pieces: ReadonlyArray<string>) => pieces.map((piece) => piece.trim()).filter((piece) => piece !== "")

/** Candidates of an answer: cut at sentence punctuation, which is dropped. */
export const splitCandidates = (text: string): ReadonlyArray<string> =>
  trimmed(text.replace(citation, "\n").split(/[。！？.!?]\s*/))

/** References of a reference answer: cut before every "In/From the perspective of", kept. */
export const splitReferences = (text: string): ReadonlyArray<string> =>
  trimmed(text.replace(citation, "\n").split(/(?=\b(?:In|From) the perspective of\b)/i))

const abbreviations: ReadonlySet<string> = new Set([
  ..."ABCDEFGHIJKLMNOPQRSTUVWXYZ",
  ...(
    "Adj Adm Adv Apr Asst Aug Bart Bldg Brig Bros Capt Cmdr Co Col Comdr Con Corp Cpl DR Dec Dr Drs Ens Feb Fig Gen " +
    "Gov Hon Hosp Hr Inc Insp Jan Jr Jul Jun Lt MM MR MRS MS Maj Mar Messrs Mlle Mme Mr Mrs Ms Msgr Nos Nov Nr Oct Okt " +
    "Op Ord Pfc Ph Ph.D PhD Prof Pvt Rep Reps Res Rev Rt Sen Sens Sep Sept Sfc Sgt Sr St Supt Surg al cf e.g esp etc fig " +
    "i.e no rev st v vs"
  ).split(" ")
])
/** Abbreviations only where a number follows. */
const beforeNumbers: ReadonlySet<string> = new Set(["No", "Art", "pp"])

const opening = "['\"(\\[¿¡\\p{Pi}]"
const questions = new RegExp(`([?!]) +(${opening}*\\p{Lu})`, "gu")
const dots = new RegExp(`(\\.\\.+) +(${opening}*\\p{Lu})`, "gu")
const closed = new RegExp(`([?!.] *['")\\]\\p{Pf}]+) +(${opening}* *\\p{Lu})`, "gu")
const opened = new RegExp(`([?!.]) +(${opening}+ *\\p{Lu})`, "gu")
const lastPeriod = /([\p{L}\p{N}_.-]*)(['")\]%\p{Pf}]*)(\.+)$/u
const acronym = /\.[\p{Lu}-]+\.+$/u
const starter = new RegExp(`^ *${opening}* *[\\p{Lu}0-9]`, "u")

const endsSentence = (word: string, next: string): boolean => {
  const end = lastPeriod.exec(word)
  if (end === null) return false
  const [, before = "", closing] = end
  if (abbreviations.has(before) && closing === "") return false
  if (acronym.test(word) || !starter.test(next)) return false
  return !(beforeNumbers.has(before) && closing === "" && /^[0-9]/.test(next))
}

/** Sentences of an English text, trimmed, none empty. */
export const splitSentences = (text: string): ReadonlyArray<string> => {
  const marked = text
    .replace(questions, "$1\n$2")
    .replace(dots, "$1\n$2")
    .replace(closed, "$1\n$2")
    .replace(opened, "$1\n$2")
  const words = marked.split(/ +/)
  const broken = words.map((word, i) => {
    const next = words[i + 1]
    return next === undefined ? word : `${word}${endsSentence(word, next) ? "\n" : " "}`
  })
  return trimmed(broken.join("").split("\n"))
}
