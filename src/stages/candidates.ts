/**
 * Slates out of a policy's own answers, voted on by the world's people (POPE's RQ1, arXiv 2509.19333, section 5.1: "several
 * candidate replies per instruction with the policy itself"; who votes there is not said, so the votes are reconstructed).
 * The behaviour policy is the policy that answered: the odds are its own, of the whole answer, at the temperature of the
 * drawing.
 *
 * Answers are drawn from the whole distribution, for one that is cut has other odds. Empty answers, those that
 * `maxNewTokens` cut off (whose odds are no whole answer's) and those whose text reads back as other tokens (whose odds would be
 * another tokenisation's) are left out and counted.
 */
import { readFile, writeFile } from "node:fs/promises"
import { Effect, Option, Schema } from "effect"
import { LoggedSlates, Policy, Situations, WorldFolder } from "../artifact/kinds.ts"
import type { LoggedResponse, LoggedSlate } from "../data/records.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"
import * as PolicyModel from "../models/Policy.ts"
import { draws } from "../world/draws.ts"
import { makeChecker } from "../world/exact.ts"
import { type Group, makeGroups } from "../world/groups.ts"
import { approvalsOfText } from "../world/people.ts"
import { castVotes, equalVotes } from "../world/slates.ts"
import type { World, WorldSituation } from "../world/world.ts"
import { decodingMetrics, watchDecoding } from "./decoding.ts"
import { rollOut } from "./generate.ts"
import { readWorld } from "./world.ts"

export const CandidatesParams = Param.struct({
  prompts: Param.int(0, "use the first prompts only; 0 uses all", { min: 0 }),
  samples: Param.int(4, "answers to a prompt: a slate", { min: 1 }),
  temperature: Param.number(1, "sampling temperature, of the odds too", { above: 0 }),
  maxNewTokens: Param.int(72, "most tokens of an answer, the end token included; longer ones are left out", { min: 1 }),
  voters: Param.int(20, "people who vote on a slate", { min: 1 }),
  positionBias: Param.number(1, "probability of looking one place further down; 1: no bias", { above: 0, max: 1 })
})

export class NoCandidates extends Schema.TaggedError<NoCandidates>()("NoCandidates", { detail: Schema.String }) {
  override get message() {
    return `candidates: ${this.detail}`
  }
}

/** Prompts that are answered and scored in one go. */
const chunk = 64

/** What is kept of an answer. */
const Answer = Schema.Struct({
  promptId: Schema.String,
  text: Schema.String,
  clipped: Schema.Boolean,
  /** Whether its text reads back as the very tokens that were drawn. */
  faithful: Schema.Boolean,
  logprob: Schema.Finite,
  tokens: Schema.Int
})
type Answer = typeof Answer.Type
const decodeAnswers = Schema.decodeUnknownSync(Schema.fromJsonString(Schema.Array(Answer)))
const answersFile = (dir: string) => `${dir}/answers.json`

const silent = ({ clipped, text }: Answer): boolean => !clipped && text.trim() === ""
const unfaithful = (answer: Answer): boolean => !answer.clipped && !silent(answer) && !answer.faithful
const usable = (answer: Answer): boolean => !answer.clipped && !silent(answer) && answer.faithful

const equalIds = (a: ReadonlyArray<number>, b: ReadonlyArray<number>): boolean =>
  a.length === b.length && a.every((id, k) => id === b[k])

/** The slate of a situation's answers, in the order drawn; undefined where none says anything. */
const slateOf = (
  answers: ReadonlyArray<Answer>,
  situation: WorldSituation,
  groups: ReadonlyArray<Group>,
  approvalsOf: (text: string, situation: WorldSituation) => ReadonlyArray<number>,
  { positionBias, voters }: typeof CandidatesParams.Type,
  seed: number
): LoggedSlate | undefined => {
  const approvals = answers.map(({ text }) => approvalsOf(text, situation))
  const random = draws(seed, "candidates", "votes", situation.id)
  const votes = castVotes(groups, approvals, { positionBias, voters }, random)
  const [first, ...rest] = answers.map(
    ({ logprob, text, tokens }, k): LoggedResponse => ({
      text,
      votes: votes[k]!,
      exposure: voters * positionBias ** k,
      relevance: groups.reduce((sum, { share }, g) => sum + share * approvals[k]![g]!, 0),
      logprob: Math.min(0, logprob),
      tokens
    })
  )
  const { id, prompt } = situation
  return first && { id, promptId: id, prompt, responses: [first, ...rest], source: "candidates" }
}

const situationsOf = (world: World) =>
  new Map(Object.values(world.splits).flatMap((split) => split.map((one) => [one.id, one])))

const mean = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length

export const candidates = Stage.make("candidates", {
  module: import.meta.url,
  version: 1,
  params: CandidatesParams,
  inputs: { policy: Policy, situations: Situations, world: WorldFolder },
  outputs: { slates: LoggedSlates, equalVotes: LoggedSlates },
  seeded: true,
  device: true,
  metrics: {
    "candidates/slates": "none",
    "candidates/empty": "lower",
    "candidates/clipped": "lower",
    "candidates/unfaithful": "lower",
    "candidates/distinct": "none",
    "candidates/approval": "higher",
    "candidates/logprob": "none",
    "candidates/tokens": "none",
    ...decodingMetrics
  },
  run: Effect.fn("stage.candidates")(function* ({ inputs, outputs, params, seed }) {
    const task = yield* Task
    const policy = yield* PolicyModel.load(inputs.policy.dir)
    const world = yield* readWorld(inputs.world.dir)
    const known = situationsOf(world)
    const all = yield* inputs.situations.rows
    const asked = params.prompts > 0 ? all.slice(0, params.prompts) : all
    const stray = asked.find(({ id }) => !known.has(id))
    if (stray !== undefined) return yield* new NoCandidates({ detail: `${stray.id} is no situation of this world` })

    const { maxNewTokens, samples, temperature } = params
    const resumed = Option.getOrUndefined(yield* task.resume)
    const answers: Array<Answer> =
      resumed === undefined
        ? []
        : [...decodeAnswers(yield* Effect.promise(() => readFile(answersFile(resumed.dir), "utf8")))]
    const decoding = yield* watchDecoding(policy)
    yield* task.progress(resumed?.step ?? 0, asked.length)
    for (let at = resumed?.step ?? 0; at < asked.length; at += chunk) {
      const done = Math.min(at + chunk, asked.length)
      const sampling = { seed, purpose: "candidates", samples, temperature, maxNewTokens }
      const fresh = yield* rollOut(policy, asked.slice(at, done), sampling)
      const scores = yield* policy.logprobs(
        fresh.map(({ ids, prompt }) => ({ prompt, completion: ids })),
        { temperature }
      )
      fresh.forEach(({ finish, ids, promptId, text }, k) => {
        const logprob = scores[k]!.logprobs.reduce((sum, x) => sum + x, 0)
        const faithful = equalIds(policy.chat.encodeCompletion(text), ids)
        answers.push({ promptId, text, clipped: finish === "length", faithful, logprob, tokens: ids.length })
      })
      yield* task.progress(done, asked.length)
      if (done < asked.length && (yield* task.checkpointDue)) {
        yield* task.checkpoint(done, null, (dir) =>
          Effect.promise(() => writeFile(answersFile(dir), JSON.stringify(answers)))
        )
      }
    }

    const groups = makeGroups(world)
    const checker = makeChecker(world)
    const approvalsOf = (text: string, situation: WorldSituation) => approvalsOfText(checker, groups, text, situation)
    const slates = [...Map.groupBy(answers.filter(usable), ({ promptId }) => promptId)].flatMap(
      ([promptId, own]) => slateOf(own, known.get(promptId)!, groups, approvalsOf, params, seed) ?? []
    )
    if (slates.length === 0) {
      return yield* new NoCandidates({
        detail: `all ${answers.length} answers are empty, cut at \`maxNewTokens: ${maxNewTokens}\`, or read back as other tokens; raise it, or start from a policy that ends its answers`
      })
    }
    yield* outputs.slates.write(slates)
    yield* outputs.equalVotes.write(equalVotes(slates))
    const responses = slates.flatMap((slate) => slate.responses)
    yield* task.metrics(0, {
      "candidates/slates": slates.length,
      "candidates/empty": answers.filter(silent).length,
      "candidates/clipped": answers.filter(({ clipped }) => clipped).length,
      "candidates/unfaithful": answers.filter(unfaithful).length,
      "candidates/distinct": mean(
        slates.map((slate) => new Set(slate.responses.map(({ text }) => text)).size / slate.responses.length)
      ),
      "candidates/approval": mean(responses.map(({ relevance }) => relevance!)),
      "candidates/logprob": mean(responses.map(({ logprob }) => logprob!)),
      "candidates/tokens": mean(responses.map(({ tokens }) => tokens!)),
      ...(yield* decoding.metrics)
    })
  })
})
