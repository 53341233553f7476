/**
 * The settings of the Overton world, with the defaults of the study that made it (`docs/world.md`).
 * The world's seed is its own: cells with different seeds share one world.
 */
import { Schema } from "effect"
import * as Param from "../dsl/param.ts"

/** The settings as fields, for a parameter section of one's own. */
export const worldFields = {
  seed: Param.int(0, "the world's own seed; cells with different seeds share one world"),
  train: Param.int(3000, "training situations", { min: 1 }),
  development: Param.int(200, "development situations, of attribute pairs never seen in training", { min: 1 }),
  test: Param.int(200, "test situations, of attribute pairs never seen in training", { min: 1 }),
  perspectives: Param.int(64, "perspective names, each with two stances", { min: 10 }),
  clusters: Param.int(16, "clusters of near neighbours that share words", { min: 1 }),
  ownWords: Param.int(4, "content words a perspective has to itself", { min: 1 }),
  sharedWords: Param.int(1, "content words the perspectives of a cluster share", { min: 0 }),
  zipf: Param.number(1, "exponent of popularity: the k-th most popular perspective has weight k^-zipf", { min: 0 }),
  heldOutPairs: Param.number(0.15, "share of (action, object) pairs kept out of training", { min: 0, max: 1 }),
  leastWindow: Param.int(5, "smallest window of a situation", { min: 2 }),
  mostWindow: Param.int(10, "largest window of a situation", { min: 2 }),
  demonstrations: Param.literal(
    ["narrow", "full"],
    "narrow",
    "narrow: a few lines drawn by popularity, as people's answers are; full: up to mostLines of the window"
  ),
  leastLines: Param.int(2, "fewest lines of a narrow demonstration", { min: 1 }),
  usualLines: Param.int(4, "most lines of a usual narrow demonstration; equally likely from leastLines", { min: 1 }),
  skew: Param.number(
    1,
    "exponent of popularity in drawing a narrow demonstration's lines: 1 as people's answers are, 0 every perspective of the window as likely, 3 mostly the most popular one, as models dwell on one view",
    { min: 0 }
  ),
  tail: Param.array(
    Schema.Finite,
    [0.04, 0.02, 0.01],
    "shares of narrow demonstrations with 1, 2, 3 lines more than usual: without them no policy ever tries"
  ),
  mostLines: Param.int(7, "lines that fit a completion: of a full demonstration, and of the best constant answer", {
    min: 1
  }),
  judgeError: Param.number(0.075, "how often a judge says the opposite of the truth", { min: 0, max: 1 })
}

export const WorldSettings = Schema.Struct(worldFields)
export type WorldSettings = typeof WorldSettings.Type

/** Every setting at its default. */
export const defaultSettings: WorldSettings = Schema.decodeSync(WorldSettings)({})
