/** Preferences as the data sets that preference training and SFT read: what every stage that makes them puts out. */
import { Effect } from "effect"
import type { WriterOf } from "../../artifact/Kind.ts"
import { Demonstrations, Preferences, RankedLists, UnpairedPreferences } from "../../artifact/kinds.ts"
import type { Lessons } from "../../data/votes.ts"

export const preferenceOutputs = {
  /** A better and a worse answer. */
  pairs: Preferences,
  /** Answers, best first. */
  ranked: RankedLists,
  /** Answers that are desirable or not. */
  unpaired: UnpairedPreferences,
  /** The best answers, to learn from; and the worst. */
  top: Demonstrations,
  bottom: Demonstrations
} as const

type Writers = { readonly [N in keyof typeof preferenceOutputs]: WriterOf<(typeof preferenceOutputs)[N]> }

export const writeLessons = Effect.fnUntraced(function* (outputs: Writers, lessons: ReadonlyArray<Lessons>) {
  yield* outputs.pairs.write(lessons.map(({ pair }) => pair))
  yield* outputs.ranked.write(lessons.map(({ ranked }) => ranked))
  yield* outputs.unpaired.write(lessons.flatMap(({ unpaired }) => unpaired))
  yield* outputs.top.write(lessons.map(({ top }) => top))
  yield* outputs.bottom.write(lessons.map(({ bottom }) => bottom))
})
