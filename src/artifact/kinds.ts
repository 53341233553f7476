/**
 * The kinds of artifact that Overtone's own stages exchange. A user's package may add its own with `folderKind` or
 * `Dataset`.
 */
import { createReadStream } from "node:fs"
import { open } from "node:fs/promises"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { Effect, Schema, SchemaIssue } from "effect"
import {
  Completion,
  JudgedPair,
  LoggedSlate,
  NliPair,
  OptionQuestion,
  PreferencePair,
  PromptCompletion,
  RankedList,
  Situation,
  Triplet,
  UnpairedPreference
} from "../data/records.ts"
import { folderKind, type Kind } from "./Kind.ts"

/** A generative language model as a Hugging Face folder: config, safetensors, tokenizer, chat template. */
export const Policy = folderKind("policy")
/** A sentence encoder as a Hugging Face folder, with `estimator.json` where it was calibrated. */
export const Encoder = folderKind("encoder")
/** A sentence-pair classifier as a Hugging Face folder. */
export const Classifier = folderKind("classifier")
/** All that a longer run of the same training needs to go on: weights, optimizer and whatever else moves. May be empty. */
export const Checkpoint = folderKind("checkpoint")
/** A folder of named JSON files, for people and for later stages. */
export const Report = folderKind("report")

export class DatasetUnreadable extends Schema.TaggedError<DatasetUnreadable>()("DatasetUnreadable", {
  file: Schema.String,
  line: Schema.Int,
  detail: Schema.String
}) {
  override get message() {
    return `${this.file}:${this.line}: ${this.detail}`
  }
}

export interface DatasetReader<Row> {
  readonly dir: string
  /** All rows, in order, each decoded by the dataset's row schema. */
  readonly rows: Effect.Effect<ReadonlyArray<Row>, DatasetUnreadable>
}

export interface DatasetWriter<Row> {
  readonly dir: string
  /** Writes all rows at once; byte-identical for equal rows. */
  readonly write: (rows: Iterable<Row>) => Effect.Effect<void>
}

const rowsFile = "rows.jsonl"

/** Rows of one schema, one JSON object a line in `rows.jsonl`. The name is part of the type: `dataset<triplet>`. */
export const Dataset = <const Name extends string, Row>(
  name: Name,
  row: Schema.Codec<Row, unknown>
): Kind<`dataset<${Name}>`, DatasetReader<Row>, DatasetWriter<Row>> => {
  const decode = Schema.decodeUnknownResult(Schema.fromJsonString(row), { errors: "all" })
  const encode = Schema.encodeSync(row)
  return {
    name: `dataset<${name}>`,
    read: (dir) => ({
      dir,
      rows: Effect.tryPromise({
        try: async () => {
          const file = join(dir, rowsFile)
          const rows: Array<Row> = []
          let line = 0
          for await (const text of createInterface({ input: createReadStream(file, "utf8"), crlfDelay: Infinity })) {
            line++
            const result = decode(text)
            if (result._tag === "Failure") {
              const issues = SchemaIssue.makeFormatterStandardSchemaV1()(result.failure.issue).issues
              throw new DatasetUnreadable({ file, line, detail: issues.map((i) => i.message).join("; ") })
            }
            rows.push(result.success)
          }
          return rows
        },
        catch: (cause) =>
          cause instanceof DatasetUnreadable
            ? cause
            : new DatasetUnreadable({ file: join(dir, rowsFile), line: 0, detail: String(cause) })
      })
    }),
    write: (dir) => ({
      dir,
      write: (rows) =>
        Effect.promise(async () => {
          const file = await open(join(dir, rowsFile), "w")
          try {
            let buffer = ""
            for (const row of rows) {
              buffer += `${JSON.stringify(encode(row))}\n`
              if (buffer.length > 1 << 20) {
                await file.write(buffer)
                buffer = ""
              }
            }
            await file.write(buffer)
            await file.sync()
          } finally {
            await file.close()
          }
        })
    })
  }
}

/** Prompts with their windows of reference perspectives. */
export const Situations = Dataset("situation", Situation)
/** Prompts with answers to learn from. */
export const Demonstrations = Dataset("prompt-completion", PromptCompletion)
export const Triplets = Dataset("triplet", Triplet)
export const JudgedPairs = Dataset("judged-pair", JudgedPair)
export const NliPairs = Dataset("nli-pair", NliPair)
/** Answers that a policy (ours, or somebody's file) gave. */
export const Completions = Dataset("completion", Completion)
/** Responses seen together under a prompt, with votes and behaviour log-probabilities. */
export const LoggedSlates = Dataset("logged-slate", LoggedSlate)
/** A synthetic world: its settings in `world.json`, from which all of it follows, and its tokenizer. */
export const WorldFolder = folderKind("world")
/** Questions with options, and how groups of people choose among them. */
export const OptionQuestions = Dataset("option-question", OptionQuestion)
/** Two answers to a prompt, the chosen one and the rejected one. */
export const Preferences = Dataset("preference", PreferencePair)
/** Answers that are desirable or not, by themselves. */
export const UnpairedPreferences = Dataset("unpaired-preference", UnpairedPreference)
/** Answers to a prompt in their order, the best first. */
export const RankedLists = Dataset("ranked-list", RankedList)
