/**
 * The pitfalls of the OP-GRPO reward as named options, and two profiles of them.
 *
 * `paper` is what the authors' code does. `strict` closes what a policy can exploit:
 *
 * | | option | paper | strict |
 * | --- | --- | --- | --- |
 * | P1 | `maskSource` | `chat-prompt`: template and system words are masked in candidates too | `situation` only |
 * | P1 | `maskReferences` | false: candidates lose words that references keep | true: both sides alike |
 * | P2 | `unformatted` | `one-candidate`: text without form is one sentence, so unique, so +0.3 | `no-uniqueness`: rate 0 |
 * | P3 | `surplus` | `free`: perspectives beyond the references cost nothing | `harmonic-mean` of coverage and precision |
 * | P4 | `names` | `substring`: "life" is found in "lifestyle" | `whole-word` |
 * | P5 | `matching` | `greedy`, ties row-major | `maximum`: no tie or order matters |
 * | P6 | `prefix` | `keep`: the estimator reads "In the perspective of ..." whatever it was trained on | `as-trained` |
 * | | `tags` | `first-match`: a second block inside the first passes as strict | `once`: each tag exactly once |
 */
import { Schema } from "effect"
import { Matching } from "./matching.ts"

export const Profile = Schema.Literals(["paper", "strict"])
export type Profile = typeof Profile.Type

/** The resolved options; every one may also be set by itself. */
export const ProfileOptions = Schema.Struct({
  maskSource: Schema.Literals(["chat-prompt", "situation"]),
  maskReferences: Schema.Boolean,
  unformatted: Schema.Literals(["one-candidate", "no-uniqueness"]),
  surplus: Schema.Literals(["free", "harmonic-mean"]),
  names: Schema.Literals(["substring", "whole-word"]),
  matching: Matching,
  prefix: Schema.Literals(["keep", "as-trained"]),
  tags: Schema.Literals(["first-match", "once"])
})
export type ProfileOptions = typeof ProfileOptions.Type

export const profiles: { readonly [P in Profile]: ProfileOptions } = {
  paper: {
    maskSource: "chat-prompt",
    maskReferences: false,
    unformatted: "one-candidate",
    surplus: "free",
    names: "substring",
    matching: "greedy",
    prefix: "keep",
    tags: "first-match"
  },
  strict: {
    maskSource: "situation",
    maskReferences: true,
    unformatted: "no-uniqueness",
    surplus: "harmonic-mean",
    names: "whole-word",
    matching: "maximum",
    prefix: "as-trained",
    tags: "once"
  }
}
