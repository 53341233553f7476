/**
 * Combinations of parameters that no single one's Schema can see, told with their places before anything runs: the stages
 * would meet them too, but some only after the minutes that pretraining takes.
 */
import type { Refusal } from "overtone/dsl/Pipeline"
import { type KeepingParams, keepingRefusals } from "overtone/stages/keeping"
import { estimatorCardFile, isCalibrated } from "overtone/stages/models"
import type { GroundParams } from "./ground.ts"

/** A situation of the world as a prompt: four words between the begin token and the separator. */
const promptTokens = 6

const attention = (node: string, { heads, hiddenSize }: { readonly heads: number; readonly hiddenSize: number }) =>
  hiddenSize % heads === 0
    ? []
    : [{ path: `${node}.heads`, message: `a hiddenSize of ${hiddenSize} does not divide into ${heads} heads` }]

const policyRefusals = ({ data, policy }: GroundParams): ReadonlyArray<Refusal> => {
  if (policy.source !== "scratch") return []
  if (data.source === "file") {
    return [
      {
        path: "data.source",
        message: "a policy from scratch reads with a world's tokenizer, and these situations come from a file",
        hint: "write policy: { source: folder, path: a model's folder or hf://org/name@revision }"
      }
    ]
  }
  const { heads, hiddenSize, keyValueHeads = heads } = policy
  const evenly = hiddenSize % heads === 0 && (hiddenSize / heads) % 2 === 0
  return [
    ...(evenly
      ? []
      : [
          {
            path: "policy.heads",
            message: `a hiddenSize of ${hiddenSize} does not divide into ${heads} heads of an even size`
          }
        ]),
    ...(keyValueHeads >= 1 && heads % keyValueHeads === 0
      ? []
      : [{ path: "policy.keyValueHeads", message: `${keyValueHeads} does not divide the ${heads} heads` }])
  ]
}

const worldRefusals = ({ data, estimator, nli }: GroundParams): ReadonlyArray<Refusal> => {
  if (data.source !== "world") return []
  const { leastLines, leastWindow, mostWindow, usualLines } = data
  return [
    ...(leastLines <= usualLines
      ? []
      : [{ path: "data.leastLines", message: `${leastLines} is more than \`usualLines\`, ${usualLines}` }]),
    ...(leastWindow <= mostWindow
      ? []
      : [{ path: "data.leastWindow", message: `${leastWindow} is more than \`mostWindow\`, ${mostWindow}` }]),
    ...attention("estimator", estimator),
    ...attention("nli", nli)
  ]
}

/** Answers of at most so many tokens that a scratch policy's context cannot hold. */
export const tooLong = (p: GroundParams, path: string, maxNewTokens: number): ReadonlyArray<Refusal> =>
  p.policy.source !== "scratch" || promptTokens + maxNewTokens <= p.policy.maxPositions
    ? []
    : [
        {
          path,
          message: `${maxNewTokens} tokens of an answer and ${promptTokens} of its prompt do not fit \`policy.maxPositions\`, ${p.policy.maxPositions}`,
          hint: "raise policy.maxPositions, or ask for fewer tokens"
        }
      ]

/**
 * Thresholds left to a calibration that does not take place: with a file of situations and an encoder that is not
 * fine-tuned there are no judged pairs.
 */
export const untaught = (
  { data, estimator }: GroundParams,
  reward: Readonly<Record<string, unknown>>,
  node = "grpo"
): ReadonlyArray<Refusal> => {
  if (data.source !== "file" || estimator.steps > 0) return []
  return ["coverage", "uniqueness"].flatMap((part) => {
    const section = reward[part]
    const open =
      typeof section === "object" && section !== null && "threshold" in section && section.threshold === "calibrated"
    return open
      ? [
          {
            path: `${node}.reward.${part}.threshold`,
            message:
              "is left to calibration, and an encoder that is not fine-tuned (`estimator.steps: 0`) is not calibrated on a file's situations",
            hint: "write the cosine (the paper's are 0.70 for coverage and 0.78 for uniqueness, for its own encoder), or give estimator.steps"
          }
        ]
      : []
  })
}

/** The same of the evaluation's own threshold: the paper's 0.70 would stand there in silence. */
const unmeasured = ({ data, estimator, evaluate }: GroundParams): ReadonlyArray<Refusal> =>
  data.source !== "file" || estimator.steps > 0 || evaluate.threshold !== "calibrated"
    ? []
    : [
        {
          path: "evaluate.threshold",
          message:
            "is left to calibration, and an encoder that is not fine-tuned (`estimator.steps: 0`) is not calibrated on a file's situations",
          hint: "write the cosine (the paper's is 0.70, for its own encoder), or give estimator.steps"
        }
      ]

/** The same where an encoder is taken as it is: whether it brings a threshold of its own stands in its folder. */
export const uncalibrated = (folder: string, threshold: number | "calibrated"): ReadonlyArray<Refusal> =>
  threshold !== "calibrated" || isCalibrated(folder)
    ? []
    : [
        {
          path: "evaluate.threshold",
          message: `is left to calibration, and ${folder} was not calibrated (no threshold of its own in ${estimatorCardFile})`,
          hint: "write the cosine (the paper's is 0.70, for its own encoder)"
        }
      ]

/** A training measured on rows of which a file's split holds `count` out. */
export const nothingHeld = (
  node: string,
  section: KeepingParams,
  { count, key, rows }: { readonly count: number; readonly key: string; readonly rows: string }
): ReadonlyArray<Refusal> =>
  count === 0 && section.evaluateEvery > 0
    ? [
        {
          path: `${node}.evaluateEvery`,
          message: `measures on ${rows}, and none are held out (\`${key}: 0\`)`,
          hint: `write ${key}: 100`
        }
      ]
    : []

/** A training measured on development situations of which a file's split has none. */
export const unheld = ({ data }: GroundParams, node: string, section: KeepingParams): ReadonlyArray<Refusal> =>
  data.source === "file"
    ? nothingHeld(node, section, {
        count: data.development,
        key: "data.development",
        rows: "development situations"
      })
    : []

/** A training that its pipeline has no development data for. */
export const unmeasurable = (node: string, { evaluateEvery }: KeepingParams): ReadonlyArray<Refusal> =>
  evaluateEvery === 0
    ? []
    : [
        {
          path: `${node}.evaluateEvery`,
          message: "this pipeline gives its training nothing to be measured on",
          hint: "leave it out, or pass `development` in a pipeline of your own"
        }
      ]

/** What supervised fine-tuning refuses: as above, or the best policy asked for where nothing is measured. */
export const sftRefusals = (p: GroundParams, node: string, section: KeepingParams): ReadonlyArray<Refusal> => [
  ...unheld(p, node, section),
  ...keepingRefusals(section).map((refusal) => ({ ...refusal, path: `${node}.${refusal.path}` }))
]

/** What the ground refuses of its parameters. */
export const groundRefusals = (p: GroundParams): ReadonlyArray<Refusal> => [
  ...policyRefusals(p),
  ...worldRefusals(p),
  ...unmeasured(p),
  ...(p.data.source === "world" ? sftRefusals(p, "pretrain", p.pretrain) : []),
  ...sftRefusals(p, "warmStart", p.warmStart),
  ...tooLong(p, "evaluate.maxNewTokens", p.evaluate.maxNewTokens)
]
