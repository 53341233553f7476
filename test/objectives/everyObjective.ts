/** Every objective of policies, in settings that reach each of its branches once: what a backend is tried with. */
import { cispo } from "../../src/objectives/cispo.ts"
import { copg } from "../../src/objectives/copg.ts"
import { cpo } from "../../src/objectives/cpo.ts"
import { dpo, hinge, ipo, robustDpo } from "../../src/objectives/dpo.ts"
import { dppo } from "../../src/objectives/dppo.ts"
import { grpo } from "../../src/objectives/grpo.ts"
import { gspo } from "../../src/objectives/gspo.ts"
import { ips } from "../../src/objectives/ips.ts"
import { irpo } from "../../src/objectives/irpo.ts"
import { kto } from "../../src/objectives/kto.ts"
import type { TokenObjective } from "../../src/objectives/Objective.ts"
import { orpo } from "../../src/objectives/orpo.ts"
import { plackettLuceDpo } from "../../src/objectives/plackettLuceDpo.ts"
import { reinforce } from "../../src/objectives/reinforce.ts"
import { sft } from "../../src/objectives/sft.ts"
import { simpo } from "../../src/objectives/simpo.ts"
import { tisDpo } from "../../src/objectives/tisDpo.ts"

const given = { old: "given" } as const
const withKl = { ...given, klCoefficient: 0.05 }

export const everyObjective: ReadonlyArray<readonly [name: string, objective: TokenObjective]> = [
  ["sft", sft()],
  ["sft by sequences", sft({ aggregation: "sequence-mean" })],
  ["grpo of one update", grpo()],
  ["grpo", grpo({ ...withKl, dualClip: 3 })],
  ["grpo, k1", grpo({ ...withKl, klEstimator: "k1" })],
  ["grpo by a constant", grpo({ ...given, aggregation: "constant", maxTokens: 72 })],
  ["grpo, weighted and masked", grpo({ ...given, weighted: true, masked: true, entropyBonus: 0.01 })],
  ["gspo", gspo(given)],
  ["cispo", cispo(given)],
  ["dppo, tv", dppo(given)],
  ["dppo, kl", dppo({ ...given, divergence: "kl" })],
  ["copg", copg(given)],
  ["reinforce", reinforce(given)],
  ["dpo", dpo()],
  ["dpo, smoothed and weighted", dpo({ labelSmoothing: 0.1, offsets: "given", weights: "given" })],
  ["hinge", hinge()],
  ["robust dpo", robustDpo()],
  ["ipo", ipo()],
  ["simpo", simpo()],
  ["cpo", cpo()],
  ["orpo", orpo()],
  ["kto", kto()],
  ["plackett-luce dpo", plackettLuceDpo({ size: 4 })],
  ["irpo", irpo({ size: 4 })],
  ["tis-dpo", tisDpo()],
  ["ips, product", ips({ groupSize: 4 })],
  ["ips, plackett-luce", ips({ groupSize: 4, set: "plackett-luce", propensity: "sequence" })],
  [
    "ips, alone and self-normalised",
    ips({ groupSize: 4, weights: "independent", propensity: "pool-normalised", estimator: "self-normalised" })
  ],
  ["ips, doubly robust", ips({ groupSize: 4, cu: "label", estimator: "doubly-robust", clip: 4 })]
]
