/**
 * What a reward of a user's own did that no number can be had from, with the reward, the completion where it is one, and
 * the remedy.
 */
import { Schema } from "effect"

const Reason = Schema.Union([
  /** `score` threw. */
  Schema.TaggedStruct("Threw", { detail: Schema.String }),
  Schema.TaggedStruct("NotANumber", { got: Schema.String }),
  Schema.TaggedStruct("WrongCount", { got: Schema.Int, wanted: Schema.Int }),
  Schema.TaggedStruct("TimedOut", { seconds: Schema.Finite, of: Schema.Int }),
  /** The process or thread ended. */
  Schema.TaggedStruct("Died", { detail: Schema.String }),
  /** What came back is no answer of the protocol. */
  Schema.TaggedStruct("Garbled", { detail: Schema.String }),
  /** It could not be started, or reached. */
  Schema.TaggedStruct("Unreachable", { detail: Schema.String })
])
export type Reason = typeof Reason.Type

export class RewardFailed extends Schema.TaggedError<RewardFailed>()("RewardFailed", {
  reward: Schema.String,
  /** Where it comes from, as people know it: `mine.ts#brevity`, `python3 reward.py`, a URL. */
  origin: Schema.String,
  /** The completion at which it happened, where one is to blame. */
  completion: Schema.NullOr(Schema.Struct({ promptId: Schema.String, row: Schema.Int, text: Schema.String })),
  reason: Reason
}) {
  override get message() {
    const at =
      this.completion === null
        ? ""
        : ` for completion ${this.completion.row} of the batch (prompt ${this.completion.promptId}): ${excerpt(this.completion.text)}`
    return `the reward ${this.reward} (${this.origin}) ${sentence(this.reason, at)}`
  }
}

const excerpt = (text: string): string => JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text)

const sentence = (reason: Reason, at: string): string => {
  switch (reason._tag) {
    case "Threw":
      return `threw${at}: ${reason.detail}. Mend it, or have it return null for a completion that it cannot score.`
    case "NotANumber":
      return `said ${reason.got}${at}. It has to say a finite number, or null for a completion that it cannot score.`
    case "WrongCount":
      return `said ${reason.got} values for ${reason.wanted} completions. It has to say one for each, in their order; null where it cannot score one.`
    case "TimedOut":
      return `had not answered after ${reason.seconds} s (a batch of ${reason.of} completions). Raise its \`timeout\`, or look for what keeps it.`
    case "Died":
      return `ended: ${reason.detail}. What it wrote to stderr is in the task's log; it has to stay and answer every batch.`
    case "Garbled":
      return `gave no answer of the protocol: ${reason.detail}. One JSON object a line, {"id": ..., "scores": [...]}; everything else belongs on stderr (docs/extending.md).`
    case "Unreachable":
      return `cannot be reached: ${reason.detail}.`
  }
}
