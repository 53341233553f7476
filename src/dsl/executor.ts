/**
 * An executor file (`docs/running.md`): where a project's tasks run, not what they are. It is no part of an experiment and
 * of no key, so that one experiment runs on a laptop and on four cards. Flags win over it, it wins over the environment.
 *
 *     device: xla:cuda
 *     devices: 4
 *     mesh: { data: 2, model: 2 }
 *     jobs: 1
 *     memoryShare: 0.8
 *     hosts: { coordinator: "node0:7788", count: 2 }
 */
import { existsSync, readFileSync } from "node:fs"
import { dirname, join, resolve } from "node:path"
import { Effect, Schema } from "effect"
import { addressOf } from "../device/hosts.ts"
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
const hosts = Schema.Struct({
  coordinator: Schema.String.annotate({
    description: "Host 0 as the others reach it, and a free port of it; OVERTONE_COORDINATOR wins"
  }).check(
    Schema.makeFilter((text) => addressOf(text) !== undefined, {
      message: "expected HOST:PORT of host 0, as node0:7788"
    })
  ),
  count: count.annotate({ description: "How many hosts there are; OVERTONE_HOSTS wins" }),
  id: Schema.optionalKey(
    Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)).annotate({
      description: "This host's number from 0, where the file is this host's alone; OVERTONE_HOST_ID wins"
    })
  ),
  secretFile: Schema.optionalKey(
    Schema.String.annotate({
      description: "A file with the word that all share, beside this one or absolute; OVERTONE_HOSTS_SECRET wins"
    })
  )
}).annotate({ description: "One client over several hosts (`exp device hosts`); tasks run on one in this version" })
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
      .check(...cardsApart, distinct, some)
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
  ),
  hosts: Schema.optionalKey(hosts)
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
  readonly hosts:
    | {
        /** HOST:PORT. */
        readonly coordinator: string
        readonly count: number
        readonly id: number | undefined
        readonly secret: string | undefined
      }
    | undefined
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
  const secret = secretOf(said, file)
  const unfit = [...disagreements(root, said, mesh), ...hostProblems(root, said, secret)]
  if (unfit.length > 0) return yield* new InvalidExecutor({ errors: tidy(unfit) })
  const executor: Executor = {
    file,
    device: said.device ?? "auto",
    cards: said.cards?.map(String),
    mesh: mesh !== undefined && meshDevices(mesh) > 1 ? mesh : undefined,
    jobs: said.jobs,
    memoryShare: said.memoryShare,
    hosts:
      said.hosts === undefined
        ? undefined
        : {
            coordinator: said.hosts.coordinator,
            count: said.hosts.count,
            id: said.hosts.id,
            secret: secret === undefined || "missing" in secret ? undefined : secret.word
          }
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

/** The word that all hosts share, from its file; or why it is not there. Undefined where no file is named. */
const secretOf = ({ hosts }: typeof ExecutorFile.Type, file: string) => {
  if (hosts?.secretFile === undefined) return undefined
  const path = resolve(dirname(file), hosts.secretFile)
  try {
    const word = readFileSync(path, "utf8").trim()
    return word === "" ? { missing: `${path} is empty` } : { word }
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? cause.code : undefined
    return { missing: code === "ENOENT" ? `there is no file ${path}` : `${path} cannot be read (${String(code)})` }
  }
}

/** What is wrong with several hosts that is right by its shape. */
const hostProblems = (
  root: LocatedMap,
  { device = "auto", hosts: said }: typeof ExecutorFile.Type,
  secret: ReturnType<typeof secretOf>
): ReadonlyArray<Problem> => {
  if (said === undefined) return []
  const entry = child(root, "hosts")!
  const within = (key: string, message: string, hint: string): Problem => {
    const place = entry.value._tag === "Map" ? child(entry.value, key)?.value.at : undefined
    return problemAt(place ?? entry.key, message, hint)
  }
  const problems: Array<Problem> = []
  if (!device.startsWith("xla:")) {
    const provider = device === "auto" ? "cpu" : device
    problems.push(problemAt(entry.key, `${provider} is of one host`, "write device: xla:cuda, or leave hosts out"))
  }
  if (said.id !== undefined && said.id >= said.count) {
    problems.push(
      within("id", `${said.count} hosts have no number ${said.id}`, `write one from 0 to ${said.count - 1}`)
    )
  }
  if (secret !== undefined && "missing" in secret) {
    problems.push(within("secretFile", secret.missing, "name the file with the word, or set OVERTONE_HOSTS_SECRET"))
  }
  return problems
}

/** One line for people: `xla:cuda, cards 0 1, fsdp=2, 1 job at most, 0.8 of a card's memory`. */
export const executorText = ({ cards, device, hosts, jobs, memoryShare, mesh }: Executor): string =>
  [
    device,
    ...(cards === undefined ? [] : [`card${cards.length === 1 ? "" : "s"} ${cards.join(" ")}`]),
    ...(mesh === undefined ? [] : [meshText(mesh)]),
    ...(jobs === undefined ? [] : [`${jobs} job${jobs === 1 ? "" : "s"} at most`]),
    ...(memoryShare === undefined ? [] : [`${memoryShare} of a card's memory`]),
    ...(hosts === undefined
      ? []
      : [`${hosts.id === undefined ? "" : `host ${hosts.id} of `}${hosts.count} hosts at ${hosts.coordinator}`])
  ].join(", ")
