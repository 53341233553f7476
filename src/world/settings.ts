/**
 * The settings of the Overton world, with the defaults of the study that made it (`docs/world.md`).
 * The world's seed is its own: cells with different seeds share one world.
 */
import { Effect, Schema } from "effect"

const count = (value: number) =>
  Schema.Int.check(Schema.isGreaterThanOrEqualTo(1)).pipe(Schema.withDecodingDefaultKey(Effect.succeed(value)))
const share = (value: number) =>
  Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 })).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed(value))
  )

export const WorldSettings = Schema.Struct({
  seed: Schema.Int.pipe(Schema.withDecodingDefaultKey(Effect.succeed(0))),
  /** Situations per split; development and test hold attribute pairs never seen in training. */
  train: count(3000),
  development: count(200),
  test: count(200),
  /** Perspective names, each with two stances, and the clusters of near neighbours they fall into. */
  perspectives: count(64),
  clusters: count(16),
  /** Content words a perspective has to itself, and shares with its cluster. */
  ownWords: count(4),
  sharedWords: count(1),
  /** Exponent of popularity: the k-th most popular perspective is drawn with weight k^-zipf. */
  zipf: Schema.Finite.pipe(Schema.withDecodingDefaultKey(Effect.succeed(1))),
  /** Share of (action, object) pairs kept out of training. */
  heldOutPairs: share(0.15),
  /** Sizes of windows kept: [least, most]. */
  window: Schema.Tuple([Schema.Int, Schema.Int]).pipe(Schema.withDecodingDefaultKey(Effect.succeed([5, 10] as const))),
  /** `narrow`: a few lines drawn by popularity, as people's answers are; `full`: up to `mostLines` of the window. */
  demonstrations: Schema.Literals(["narrow", "full"]).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed("narrow" as const))
  ),
  /** Lines of a narrow demonstration: [least, most], equally likely. */
  lines: Schema.Tuple([Schema.Int, Schema.Int]).pipe(Schema.withDecodingDefaultKey(Effect.succeed([2, 4] as const))),
  /** Shares of narrow demonstrations with 1, 2, 3, ... lines more than that: without them no policy ever tries. */
  tail: Schema.Array(Schema.Finite).pipe(Schema.withDecodingDefaultKey(Effect.succeed([0.04, 0.02, 0.01] as const))),
  /** Lines that fit a completion; what a full demonstration and the best constant answer have at most. */
  mostLines: count(7),
  /** How often a judge says the opposite of the truth. */
  judgeError: share(0.075)
})
export type WorldSettings = typeof WorldSettings.Type

/** Every setting at its default. */
export const defaultSettings: WorldSettings = Schema.decodeSync(WorldSettings)({})
