/**
 * Typed records from raw rows. A reader knows the layouts that public data comes in and picks by the columns it finds:
 *
 * | record | columns |
 * | --- | --- |
 * | Situation | `prompt, perspectives` (list of `{name, explanation}`)[`, situation`], or `prompt, answer` (OP-V2), or `situation, vrd, explanation` (Modular Pluralism, VITAL) |
 * | Completion | `prompt, answer_p[, answers]` (OP-GRPO outputs), `situation, output` (Modular Pluralism outputs), or `prompt` and one of `completion, output, text, answer` |
 * | PromptCompletion | `prompt, completion` |
 * | Triplet | `anchor, positive, negative` |
 * | NliPair | `premise, hypothesis, label`, or `sentence_A, sentence_B, entailment_judgment` (SICK) |
 * | PreferencePair | `prompt, chosen, rejected` |
 */
import { Effect, Result, Stream } from "effect"
import { DataError, EmptyDataset } from "./DataError.ts"
import { badField, has, idOf, noLayout, parsed, type Read, text, texts } from "./fields.ts"
import { parseOpV2, perspectiveText } from "./opV2.ts"
import type {
  Completion,
  NliLabel,
  NliPair,
  PerspectiveText,
  PreferencePair,
  PromptCompletion,
  Situation,
  Triplet
} from "./records.ts"
import { type DataSource, type RawRow, sourceName, sourceStem, streamRows } from "./rows.ts"

/** How a record is read from a raw row; `wanted` is what messages call it. */
export interface RecordReader<A> {
  readonly wanted: string
  readonly read: (row: RawRow, stem: string) => Read<A>
}

const situation = (
  row: RawRow,
  stem: string,
  promptField: string,
  field: string,
  perspectives: ReadonlyArray<PerspectiveText>
): Read<Situation> =>
  Result.gen(function* () {
    const prompt = yield* text(row, promptField)
    const [first, ...rest] = perspectives
    if (first === undefined) {
      return yield* badField(
        row,
        field,
        field === "answer"
          ? 'has no perspective; write "In the perspective of NAME, EXPLANATION" lines or drop the row'
          : "is empty; give at least one perspective or drop the row"
      )
    }
    return { id: idOf(row, stem), prompt, perspectives: [first, ...rest] }
  })

const listedPerspectives = (row: RawRow): Read<ReadonlyArray<PerspectiveText>> => {
  const given = row.values["perspectives"]
  const list = typeof given === "string" ? parsed(given) : given
  if (!Array.isArray(list)) return badField(row, "perspectives", "is not a list of { name, explanation }")
  const out: Array<PerspectiveText> = []
  for (const [k, entry] of list.entries()) {
    const {
      name,
      explanation,
      text: own,
      meaning
    } = (typeof entry === "object" && entry !== null ? entry : {}) as Readonly<Record<string, unknown>>
    if (
      typeof name !== "string" ||
      name.trim() === "" ||
      typeof explanation !== "string" ||
      explanation.trim() === ""
    ) {
      return badField(row, `perspectives[${k}]`, "needs a name and an explanation, both texts that are not empty")
    }
    const base = perspectiveText(name, explanation)
    const whole = typeof own === "string" && own.trim() !== "" ? own : base.text
    out.push(typeof meaning === "string" ? { ...base, text: whole, meaning } : { ...base, text: whole })
  }
  return Result.succeed(out)
}

export const situationReader: RecordReader<Situation> = {
  wanted: "situation",
  read: (row, stem) =>
    Result.gen(function* () {
      if (has(row, "prompt", "perspectives")) {
        const record = yield* situation(row, stem, "prompt", "perspectives", yield* listedPerspectives(row))
        return has(row, "situation") ? { ...record, situation: yield* text(row, "situation") } : record
      }
      if (has(row, "situation", "vrd", "explanation")) {
        const names = yield* texts(row, "vrd")
        const explanations = yield* texts(row, "explanation")
        if (names.length !== explanations.length) {
          return yield* badField(
            row,
            "explanation",
            `has ${explanations.length} entries where "vrd" has ${names.length}`
          )
        }
        const perspectives = names.map((name, k) => perspectiveText(name, explanations[k]!))
        return yield* situation(row, stem, "situation", "vrd", perspectives)
      }
      if (has(row, "prompt", "answer")) {
        return yield* situation(row, stem, "prompt", "answer", parseOpV2(yield* text(row, "answer")))
      }
      const columns = has(row, "situation")
        ? ["vrd", "explanation"]
        : has(row, "prompt")
          ? ["perspectives"]
          : ["prompt", "perspectives"]
      return yield* noLayout(row, "situation", columns)
    })
}

const answerColumns = ["completion", "output", "text", "answer"] as const

export const completionReader: RecordReader<Completion> = {
  wanted: "completion",
  read: (row, stem) =>
    Result.gen(function* () {
      const promptField = has(row, "prompt") ? "prompt" : "situation"
      const id = idOf(row, stem)
      if (has(row, promptField, "answer_p")) {
        const prompt = yield* text(row, promptField)
        const answer = yield* text(row, "answer_p", { empty: true })
        if (!has(row, "answers")) return { id, prompt, text: answer }
        return { id, prompt, text: answer, summary: yield* text(row, "answers", { empty: true }) }
      }
      const column = answerColumns.find((name) => has(row, name))
      if (!has(row, promptField) || column === undefined) {
        return yield* noLayout(row, "completion", [
          ...(has(row, promptField) ? [] : ["prompt"]),
          ...(column ? [] : ["completion"])
        ])
      }
      return { id, prompt: yield* text(row, promptField), text: yield* text(row, column, { empty: true }) }
    })
}

const lacking = (row: RawRow, wanted: string, ...columns: ReadonlyArray<string>): Read<void> => {
  const missing = columns.filter((column) => !has(row, column))
  return missing.length === 0 ? Result.succeed(undefined) : noLayout(row, wanted, missing)
}

export const promptCompletionReader: RecordReader<PromptCompletion> = {
  wanted: "prompt and completion",
  read: (row, stem) =>
    Result.gen(function* () {
      yield* lacking(row, "prompt and completion", "prompt", "completion")
      return { id: idOf(row, stem), prompt: yield* text(row, "prompt"), completion: yield* text(row, "completion") }
    })
}

export const tripletReader: RecordReader<Triplet> = {
  wanted: "triplet",
  read: (row) =>
    Result.gen(function* () {
      yield* lacking(row, "triplet", "anchor", "positive", "negative")
      const [anchor, positive, negative] = [
        yield* text(row, "anchor"),
        yield* text(row, "positive"),
        yield* text(row, "negative")
      ]
      return { anchor, positive, negative }
    })
}

const nliLabels: Readonly<Record<string, NliLabel>> = {
  entailment: "entailment",
  neutral: "neutral",
  contradiction: "contradiction"
}

export const nliReader: RecordReader<NliPair> = {
  wanted: "NLI pair",
  read: (row) =>
    Result.gen(function* () {
      const columns = has(row, "sentence_A")
        ? (["sentence_A", "sentence_B", "entailment_judgment"] as const)
        : (["premise", "hypothesis", "label"] as const)
      yield* lacking(row, "NLI pair", ...columns)
      const [premise, hypothesis, given] = [
        yield* text(row, columns[0]),
        yield* text(row, columns[1]),
        yield* text(row, columns[2])
      ]
      const label = nliLabels[given.trim().toLowerCase()]
      if (label === undefined) {
        return yield* badField(row, columns[2], `is ${JSON.stringify(given)}, not entailment, neutral or contradiction`)
      }
      return { premise, hypothesis, label }
    })
}

export const preferenceReader: RecordReader<PreferencePair> = {
  wanted: "preference pair",
  read: (row, stem) =>
    Result.gen(function* () {
      yield* lacking(row, "preference pair", "prompt", "chosen", "rejected")
      return {
        id: idOf(row, stem),
        prompt: yield* text(row, "prompt"),
        chosen: yield* text(row, "chosen"),
        rejected: yield* text(row, "rejected")
      }
    })
}

/** The records of a source, streamed in order; fails at the first row that is none. */
export const streamRecords = <A>(reader: RecordReader<A>, source: DataSource): Stream.Stream<A, DataError> => {
  const stem = sourceStem(source)
  return streamRows(source).pipe(Stream.mapEffect((row) => Effect.fromResult(reader.read(row, stem))))
}

/** All records of a source, in order; fails where there is none. */
export const readRecords = <A>(
  reader: RecordReader<A>,
  source: DataSource
): Effect.Effect<readonly [A, ...Array<A>], DataError> =>
  Effect.flatMap(Stream.runCollect(streamRecords(reader, source)), ([first, ...rest]) =>
    first === undefined
      ? Effect.fail(new DataError({ reason: new EmptyDataset({ source: sourceName(source), wanted: reader.wanted }) }))
      : Effect.succeed([first, ...rest])
  )
