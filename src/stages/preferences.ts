/**
 * Preferences to train on, from the world's judge or from logged slates: as pairs, as rankings, as single answers that are
 * good or bad, and as demonstrations of the best and of the worst.
 *
 * From the world: two answers of a situation, of which a judge who errs prefers the one with the higher exact F1 of
 * coverage and uniqueness. From slates: what people voted for against what they did not (POPE's baselines: SFT on the
 * top-voted response, DPO of top against bottom). Slates that say nothing (no votes, one text, all worth the same) are left
 * out and counted. No seed: a function of the world or of the log.
 */
import { Effect, Schema } from "effect"
import { optional } from "../artifact/Kind.ts"
import { LoggedSlates, WorldFolder } from "../artifact/kinds.ts"
import { type Lessons, lessonsOf, lessonsOfPair, type Silence } from "../data/votes.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"
import { preferencePair } from "../world/preferences.ts"
import { preferenceOutputs, writeLessons } from "./preference/lessons.ts"
import { readWorld } from "./world.ts"

/** The parameters of each source, for a section of one's own; what is held out is the pipeline's to say. */
export const preferenceSources = {
  world: {
    pairs: Param.int(3000, "pairs; training situations in turn", { min: 1 }),
    errorRate: Param.number(0.075, "how often the judge says the opposite of the truth", { min: 0, max: 1 })
  },
  slates: {
    by: Param.literal(
      ["votes", "rate", "relevance"],
      "votes",
      "what a response is worth: its votes, votes by exposure, or its relevance"
    ),
    leastMargin: Param.number(0, "best and worst must be this far apart; 0: differ at all", { min: 0 }),
    longestList: Param.int(4, "longest ranking; of longer ones the best are kept, and the worst", { min: 2 })
  }
} as const

export const PreferencesParams = Param.choice(
  "from",
  {
    world: {
      ...preferenceSources.world,
      split: Param.literal(
        ["train", "development"],
        "train",
        "whose situations: development ones for pairs that are held out"
      )
    },
    slates: preferenceSources.slates
  },
  "world",
  "who prefers: the world's judge, or the voters of a log of slates"
)

export class NoPreferences extends Schema.TaggedError<NoPreferences>()("NoPreferences", { detail: Schema.String }) {
  override get message() {
    return `preferences: ${this.detail}`
  }
}

const metricNames = {
  "preferences/pairs": "none",
  "preferences/margin": "none",
  "preferences/unvoted": "none",
  "preferences/alone": "none",
  "preferences/undecided": "none"
} as const

export const preferences = Stage.make("preferences", {
  module: import.meta.url,
  version: 1,
  params: PreferencesParams,
  inputs: { world: optional(WorldFolder), slates: optional(LoggedSlates) },
  outputs: preferenceOutputs,
  metrics: metricNames,
  run: Effect.fn("stage.preferences")(function* ({ inputs, outputs, params }) {
    const task = yield* Task
    const lessons: Array<Lessons> = []
    const silent: Record<Silence, number> = { unvoted: 0, alone: 0, undecided: 0 }
    if (params.from === "world") {
      if (!inputs.world) return yield* new NoPreferences({ detail: "`from: world` needs a world as input" })
      const made = yield* readWorld(inputs.world.dir)
      const world = { ...made, splits: { ...made.splits, train: made.splits[params.split] } }
      for (let k = 0; k < params.pairs; k++) {
        const { worth, ...pair } = preferencePair(world, world.settings.seed, k, { errorRate: params.errorRate })
        const id = params.split === "train" ? pair.id : `${params.split}/${pair.id}`
        lessons.push(lessonsOfPair({ ...pair, id, margin: Math.abs(worth.chosen - worth.rejected) }))
      }
    } else {
      if (!inputs.slates) return yield* new NoPreferences({ detail: "`from: slates` needs logged slates as input" })
      const { by, leastMargin, longestList: most } = params
      const slates = yield* inputs.slates.rows
      for (const slate of slates) {
        const found = lessonsOf(slate, { by, leastMargin, most })
        if (typeof found === "string") silent[found]++
        else lessons.push(found)
      }
      if (lessons.length === 0) {
        return yield* new NoPreferences({
          detail: `none of ${slates.length} slates says which response is better by ${by}: ${silent.unvoted} have none, ${silent.alone} one text only, in ${silent.undecided} all are worth the same. Take another \`by\`, a smaller \`leastMargin\`, or another log.`
        })
      }
    }
    yield* writeLessons(outputs, lessons)
    yield* task.metrics(0, {
      "preferences/pairs": lessons.length,
      "preferences/margin": lessons.reduce((sum, { pair }) => sum + (pair.margin ?? 0), 0) / lessons.length,
      "preferences/unvoted": silent.unvoted,
      "preferences/alone": silent.alone,
      "preferences/undecided": silent.undecided
    })
  })
})
