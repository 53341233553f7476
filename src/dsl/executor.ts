/**
 * An executor file (`docs/running.md`): where a project's tasks run, not what they are. It is no part of an experiment and
 * of no key, so that one experiment runs on a laptop and on four cards. Flags win over it, it wins over the environment.
 *
 *     device: xla:cuda
 *     devices: 4
 *     mesh: { data: 2, model: 2 }
 *     jobs: 1
 *     memoryShare: 0.8
 */
import { existsSync } from "node:fs"
import { join } from "node:path"
import { Effect, Schema } from "effect"
import { type Mesh, meshAxes, meshDevices, meshText } from "../device/mesh.ts"
import { misfit } from "../device/misfit.ts"
import { checkedFiles } from "./checkedFile.ts"
import { child, type LocatedMap, plain } from "./located.ts"
import { InvalidExecutor, type Problem, problemAt, tidy } from "./problems.ts"

/** What `--device` and the key `device` may name; `auto` is decided by the command. */
export const deviceNames = [
  "auto",
  "cpu",
  "webgpu",
  "xla:cpu",
  "xla:cuda",
  // other makers' plugins, not run by us
  "xla:rocm",
  "xla:oneapi",
  "xla:tpu",
  "xla:metal"
] as const
export type DeviceName = (typeof deviceNames)[number]

const count = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 99_999 }))
const [some, distinct] = [
  Schema.isMinLength(1, { message: "expected at least one value" }),
  Schema.makeFilter((list: ReadonlyArray<unknown>) => new Set(list.map(String)).size === list.length, {
    message: "expected values that differ"
  })
]
/** What cannot be compared is not known to differ: a number and a name may be one card, a name and its beginning are. */
const cardsApart = [
  Schema.makeFilter((list: ReadonlyArray<number | string>) => new Set(list.map((one) => typeof one)).size <= 1, {
    message: "expected cards all by number or all by name: a card that is named both ways would have two tasks at once"
  }),
  Schema.makeFilter(
    (list: ReadonlyArray<number | string>) => {
      const names = list.map((one) => String(one).toLowerCase())
      return names.every(
        (name, i) => typeof list[i] === "number" || names.every((other, j) => i === j || !other.startsWith(name))
      )
    },
    { message: "expected cards that differ: a name that another begins with is the same card" }
  )
] as const
const card = Schema.Union([Schema.Int, Schema.String]).check(
  Schema.makeFilter((name) => (typeof name === "number" ? name >= 0 : /^(GPU|MIG)-[\w/-]+$/.test(name)), {
    message: "expected a card's number, or its name as `nvidia-smi -L` says it (GPU-...)"
  })
)
const axes = {
  data: "Devices that each take a share of every batch",
  fsdp: "The same, each keeping a share of weights and optimizer",
  model: "Devices that each compute a share of every layer"
}
const axis = (name: keyof typeof axes) => Schema.optionalKey(count.annotate({ description: axes[name] }))

export const ExecutorFile = Schema.Struct({
  device: Schema.optionalKey(
    Schema.Literals(deviceNames).annotate({ description: "What computes (auto, which is the CPU)" })
  ),
  cards: Schema.optionalKey(
    Schema.Array(card)
      .check(distinct, some, ...cardsApart)
      .annotate({ description: "The cards that may be used, by number or name; in place of CUDA_VISIBLE_DEVICES" })
  ),
  devices: Schema.optionalKey(
    count.annotate({ description: "Devices that share each task (those of the mesh, else 1)" })
  ),
  mesh: Schema.optionalKey(
    Schema.Struct({ data: axis("data"), fsdp: axis("fsdp"), model: axis("model") })
      .check(Schema.isMinProperties(1, { message: `expected at least one of ${meshAxes.join(", ")}` }))
      .annotate({ description: "How they are arranged (all `data`); the last axis counts fastest" })
  ),
  jobs: Schema.optionalKey(
    count.annotate({ description: "Tasks at once, at most (as many as fit); results do not depend on it" })
  ),
  memoryShare: Schema.optionalKey(
    Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1, exclusiveMinimum: true })).annotate({
      description: "The share of a card's memory that a task takes at once (0.9); in place of OVERTONE_GPU_MEMORY"
    })
  )
}).annotate({ description: "Where tasks run, not what they are: no key and no result depends on it but by rounding" })

/** What a file says, checked. */
export interface Executor {
  /** Absolute. */
  readonly file: string
  readonly device: DeviceName
  /** As CUDA names them; undefined for all that it shows. */
  readonly cards: ReadonlyArray<string> | undefined
  /** The devices that share each task; undefined for one. */
  readonly mesh: Mesh | undefined
  readonly jobs: number | undefined
  readonly memoryShare: number | undefined
}

/** The one that is used where no other is named, in the project's root. */
export const usualFile = (projectRoot: string): string => join(projectRoot, "executor.yaml")

/** `usualFile`, where there is one. */
export const usualExecutor = (projectRoot: string): string | undefined => {
  const file = usualFile(projectRoot)
  return existsSync(file) ? file : undefined
}

const read = checkedFiles("an executor file", ExecutorFile)

/** Reads and checks an executor file. Fails with every problem at once. */
export const loadExecutor = Effect.fn("dsl.loadExecutor")(function* (file: string) {
  const { problems, root } = yield* Effect.sync(() => read(file))
  if (root === undefined || problems.length > 0) return yield* new InvalidExecutor({ errors: tidy(problems) })
  const said = plain(root) as typeof ExecutorFile.Type
  const mesh = meshOf(said)
  const unfit = disagreements(root, said, mesh)
  if (unfit.length > 0) return yield* new InvalidExecutor({ errors: tidy(unfit) })
  const executor: Executor = {
    file,
    device: said.device ?? "auto",
    cards: said.cards?.map(String),
    mesh: mesh !== undefined && meshDevices(mesh) > 1 ? mesh : undefined,
    jobs: said.jobs,
    memoryShare: said.memoryShare
  }
  return executor
})

/** The axes in the order of the file. */
const meshOf = ({ devices, mesh }: typeof ExecutorFile.Type): Mesh | undefined => {
  if (mesh === undefined) return devices === undefined ? undefined : { axes: [{ name: "data", size: devices }] }
  const axes = Object.entries(mesh).flatMap(([key, size]) => {
    const name = meshAxes.find((axis) => axis === key)
    return name === undefined ? [] : [{ name, size }]
  })
  return { axes }
}

/** What is right by itself and does not go with the rest. */
const disagreements = (
  root: LocatedMap,
  { cards, device = "auto", devices, mesh: axes, memoryShare }: typeof ExecutorFile.Type,
  mesh: Mesh | undefined
): ReadonlyArray<Problem> => {
  const at = (key: string, message: string, hint: string): Problem => problemAt(child(root, key)!.key, message, hint)
  const provider = device === "auto" ? "cpu" : device
  const problems: Array<Problem> = []
  if (mesh !== undefined && axes !== undefined && devices !== undefined && meshDevices(mesh) !== devices) {
    const wrong = `${meshText(mesh)} makes ${meshDevices(mesh)}, and \`devices\` says ${devices}`
    problems.push(at("mesh", wrong, "leave `devices` out: the mesh says how many"))
  }
  const unfit = mesh === undefined || meshDevices(mesh) === 1 ? undefined : misfit(provider, mesh, cards?.length)
  if (unfit !== undefined) {
    const hint = provider.startsWith("xla:") ? "take fewer" : "write device: xla:cuda"
    problems.push(at(axes === undefined ? "devices" : "mesh", unfit, hint))
  }
  for (const [key, value] of Object.entries({ cards, memoryShare })) {
    if (value === undefined || provider === "xla:cuda") continue
    problems.push(
      at(key, `${provider} has no cards that are shared out`, `write device: xla:cuda, or leave ${key} out`)
    )
  }
  return problems
}

/** One line for people: `xla:cuda, cards 0 1, fsdp=2, 1 job at most, 0.8 of a card's memory`. */
export const executorText = ({ cards, device, jobs, memoryShare, mesh }: Executor): string =>
  [
    device,
    ...(cards === undefined ? [] : [`card${cards.length === 1 ? "" : "s"} ${cards.join(" ")}`]),
    ...(mesh === undefined ? [] : [meshText(mesh)]),
    ...(jobs === undefined ? [] : [`${jobs} job${jobs === 1 ? "" : "s"} at most`]),
    ...(memoryShare === undefined ? [] : [`${memoryShare} of a card's memory`])
  ].join(", ")
