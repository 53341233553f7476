/**
 * A control: every prompt with the references of another. A reward on such references can teach form, length and what is
 * popular, but nothing of what a prompt calls for; what a method gains under it is not coverage learnt from the prompt.
 *
 *     row i keeps its prompt and takes the perspectives of row s(i);   s: one cycle through all rows, so s(i) != i
 *
 * The multiset of windows is unchanged. Shuffled-label controls: Zhang et al., "Understanding deep learning requires
 * rethinking generalization" (1611.03530), section 2.
 */
import { Effect, Schema } from "effect"
import { Situations } from "../artifact/kinds.ts"
import { permutation, stream } from "../device/random.ts"
import * as Stage from "../dsl/Stage.ts"

export class NothingToShuffle extends Schema.TaggedError<NothingToShuffle>()("NothingToShuffle", {
  rows: Schema.Int
}) {
  override get message() {
    return `shuffle: references go from one prompt to another, and there is ${this.rows === 0 ? "no prompt" : "one prompt"}`
  }
}

export const shuffle = Stage.make("shuffle", {
  module: import.meta.url,
  version: 1,
  params: Schema.Struct({}),
  inputs: { situations: Situations },
  outputs: { situations: Situations },
  seeded: true,
  run: Effect.fn("stage.shuffle")(function* ({ inputs, outputs, seed }) {
    const rows = yield* inputs.situations.rows
    if (rows.length < 2) return yield* new NothingToShuffle({ rows: rows.length })
    const order = permutation(stream(seed, "shuffle"), rows.length)
    const from = new Map(Array.from(order, (row, k) => [row, order[(k + 1) % order.length]!]))
    yield* outputs.situations.write(rows.map((row, i) => ({ ...row, perspectives: rows[from.get(i)!]!.perspectives })))
  })
})
