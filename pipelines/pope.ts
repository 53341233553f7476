/**
 * POPE (arXiv 2509.19333) and its baselines on one log of the synthetic world: the policy is trained on logged slates with votes by
 * an importance-weighted objective, or by SFT on each slate's top-voted response, or by preferences of top against bottom, or not
 * at all; then judged by the same held-out queries and references.
 */
import type { LoggedSlates } from "overtone/artifact/kinds"
import * as Pipeline from "overtone/dsl/Pipeline"
import type { Ref } from "overtone/dsl/Stage"
import { type Log, learningParams, learningRefusals, learnt } from "./learning.ts"
import { judged, layLog, loggedParams, loggedRefusals } from "./logged.ts"

/** Its odds are known. */
const logOf = (slates: Ref<typeof LoggedSlates>): Log => ({ slates, weighed: () => slates })

export default Pipeline.make(
  "pope",
  { ...loggedParams, ...learningParams },
  (p) => {
    const logged = layLog(p)
    const policy = learnt(p, logged.warmStart, logOf(logged.train), () => logOf(logged.development()))
    return judged(policy, logged, p)
  },
  { check: (p) => [...loggedRefusals(p), ...learningRefusals(p)] }
)
