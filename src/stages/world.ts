/**
 * The synthetic Overton world as data sets: situations with their windows, demonstrations to pretrain and to warm-start
 * on, NLI pairs, answers before and after redundancy filtering, option distributions, and the world itself for exact checking. A function of its settings alone; cells of all seeds share it.
 */

import { mkdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { Effect, Schema } from "effect"
import { Demonstrations, NliPairs, OptionQuestions, Situations, WorldFolder } from "../artifact/kinds.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { wordLevelFiles } from "../models/wordLevel.ts"
import { demonstrationOf, demonstrationRow } from "../world/demonstrations.ts"
import type { Saying } from "../world/language.ts"
import { nliPair } from "../world/nli.ts"
import { optionQuestion } from "../world/options.ts"
import { sayingsRecord, situationRecord } from "../world/records.ts"
import { filteredAnswer, redundantAnswer } from "../world/redundant.ts"
import { WorldSettings, worldFields } from "../world/settings.ts"
import { worldTokenizer } from "../world/vocabulary.ts"
import { makeWorld, type World } from "../world/world.ts"

export const WorldParams = {
  ...worldFields,
  pretrainingDraws: Param.int(2, "demonstrations per training situation in the pretraining text", { min: 1 }),
  pretrainingForm: Param.number(
    1,
    "share of the pretraining text in the form of an answer; the rest is the same lines as plain text, so that a policy without a warm start knows what to say and seldom how",
    { min: 0, max: 1 }
  ),
  demonstrationDraws: Param.int(1, "demonstrations per training situation for the warm start", { min: 1 }),
  nliPairs: Param.int(6000, "labelled sentence pairs for the NLI classifier", { min: 3 }),
  optionQuestions: Param.int(400, "questions with options and a latent group's distribution over them", { min: 0 })
}

export class WorldImpossible extends Schema.TaggedError<WorldImpossible>()("WorldImpossible", {
  detail: Schema.String
}) {
  override get message() {
    return `the world cannot be made from \`data\`: ${this.detail}`
  }
}

/** Makes the world of some settings; settings that leave too little are an error that says which. */
export const worldOf = (settings: WorldSettings): Effect.Effect<World, WorldImpossible> =>
  Effect.try({
    try: () => makeWorld(settings),
    catch: (cause) => new WorldImpossible({ detail: cause instanceof Error ? cause.message : String(cause) })
  })

const settingsFile = "world.json"

/** The world that a `world` artifact describes. */
export const readWorld = Effect.fn("readWorld")(function* (dir: string) {
  const text = yield* Effect.promise(() => readFile(join(dir, settingsFile), "utf8"))
  return yield* worldOf(yield* Schema.decodeEffect(Schema.fromJsonString(WorldSettings))(text).pipe(Effect.orDie))
})

/** The tokenizer files of a world's policy: fixed phrases are single tokens. */
export const worldTokenizerFiles = (world: World): Readonly<Record<string, string>> =>
  wordLevelFiles(worldTokenizer(world.settings))

export const world = Stage.make("world", {
  module: import.meta.url,
  version: 1,
  params: Schema.Struct(WorldParams),
  inputs: {},
  outputs: {
    world: WorldFolder,
    train: Situations,
    development: Situations,
    test: Situations,
    pretraining: Demonstrations,
    demonstrations: Demonstrations,
    developmentDemonstrations: Demonstrations,
    nliPairs: NliPairs,
    redundant: Situations,
    filtered: Situations,
    options: OptionQuestions
  },
  run: Effect.fn("stage.world")(function* ({ outputs, params }) {
    const { demonstrationDraws, nliPairs, optionQuestions, pretrainingDraws, pretrainingForm, ...settings } = params
    const made = yield* worldOf(settings)
    const { seed } = settings
    yield* Effect.promise(async () => {
      await writeFile(join(outputs.world.dir, settingsFile), `${JSON.stringify(settings, null, 2)}\n`)
      const tokenizer = join(outputs.world.dir, "tokenizer")
      await mkdir(tokenizer)
      for (const [name, text] of Object.entries(worldTokenizerFiles(made))) {
        await writeFile(join(tokenizer, name), text)
      }
    })
    const rows = (from: number, count: number, formed = 1) =>
      Array.from({ length: count * made.splits.train.length }, (_, k) =>
        demonstrationRow(made, seed, from * made.splits.train.length + k, formed)
      )
    yield* outputs.train.write(made.splits.train.map((situation) => situationRecord(made, situation)))
    yield* outputs.development.write(made.splits.development.map((situation) => situationRecord(made, situation)))
    yield* outputs.test.write(made.splits.test.map((situation) => situationRecord(made, situation)))
    yield* outputs.pretraining.write(rows(0, pretrainingDraws, pretrainingForm))
    yield* outputs.demonstrations.write(rows(pretrainingDraws, demonstrationDraws))
    yield* outputs.developmentDemonstrations.write(
      made.splits.development.map((situation) => demonstrationOf(made, seed, situation, 0))
    )
    yield* outputs.nliPairs.write(
      Array.from({ length: nliPairs }, (_, k) => nliPair(made, seed, k, { prefix: "keep" }))
    )
    const before = made.splits.train.map((situation) => redundantAnswer(made, seed, situation))
    const answers = (sayings: (k: number) => ReadonlyArray<Saying>) =>
      made.splits.train.map((situation, k) => sayingsRecord(situation, sayings(k)))
    yield* outputs.redundant.write(answers((k) => before[k]!))
    yield* outputs.filtered.write(answers((k) => filteredAnswer(made, seed, made.splits.train[k]!, before[k])))
    yield* outputs.options.write(Array.from({ length: optionQuestions }, (_, k) => optionQuestion(made, seed, k)))
  })
})
