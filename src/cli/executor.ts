/**
 * Where a command's tasks run: by flags, else by an executor file, else by the environment. The file is the one that
 * `--executor` names, or `executor.yaml` in the project's root; a command that uses one says so.
 */
import { existsSync, statSync } from "node:fs"
import { Console, Effect, Option } from "effect"
import type { Missing } from "../device/look.ts"
import type { Mesh } from "../device/mesh.ts"
import type { Cards } from "../device/xla/cards.ts"
import type { Executor } from "../dsl/executor.ts"
import { usage } from "./failure.ts"
import { reported } from "./invalid.ts"
import { oneHost } from "./oneHost.ts"
import { type Device, located, nearby, projectRoot, root } from "./root.ts"

/** What computes: devices with `auto` decided. */
export type Provider = Exclude<Device, "auto">

/** `auto` is the CPU until results of a card have been compared with it. */
const decided = (device: Device): Provider => (device === "auto" ? "cpu" : device)

export interface Executing {
  readonly provider: Provider
  readonly mesh: Mesh | undefined
  readonly jobs: number | undefined
  /** Variables that are set while the command runs, for the device's library here and in workers. */
  readonly environment: Readonly<Record<string, string>>
  /** The flags that say it again. */
  readonly flags: ReadonlyArray<string>
}

/** Flags of the devices that share a task. */
export interface Sharing {
  readonly devices?: number | undefined
  readonly mesh?: string | undefined
}

/** The file of which a command reads where to run: named, or the usual one of the project that `near` belongs to. */
export const executorFile = Effect.fnUntraced(function* (near: string) {
  const { executor } = yield* root
  if (Option.isSome(executor)) return located(executor.value)
  const { usualExecutor } = yield* Effect.promise(() => import("../dsl/executor.ts"))
  return usualExecutor(yield* projectRoot(near))
})

/** What that file says; undefined where there is none, or where `--device` names another device than it does. */
const fileFor = Effect.fnUntraced(function* (near: string, json: boolean) {
  const { device } = yield* root
  const file = yield* executorFile(near)
  if (file === undefined) return undefined
  if (!existsSync(file)) return yield* usage(`there is no file ${file}`)
  if (statSync(file).isDirectory()) return yield* usage(`${file} is a folder: name an executor's YAML file`)
  const { executorText, loadExecutor } = yield* Effect.promise(() => import("../dsl/executor.ts"))
  const said = yield* loadExecutor(file).pipe(Effect.catchTag("InvalidExecutor", reported(json)))
  if (Option.isSome(device) && decided(device.value) !== decided(said.device)) {
    yield* Console.error(
      `executor ${nearby(file)} is left aside: it is for ${said.device}, and --device says ${device.value}`
    )
    return undefined
  }
  yield* Console.error(`executor ${nearby(file)}: ${executorText(said)}`)
  return said
})

/**
 * The environment that an executor file asks for. Cards and memory are in place of what is there; of several hosts it says what
 * the environment leaves open, as a scheduler knows better which one this is.
 */
export const environmentOf = (
  said: Pick<Executor, "cards" | "hosts" | "memoryShare"> | undefined,
  there: Readonly<Record<string, string | undefined>> = process.env
): Readonly<Record<string, string>> => {
  const open = {
    OVERTONE_COORDINATOR: said?.hosts?.coordinator,
    OVERTONE_HOSTS: said?.hosts?.count,
    OVERTONE_HOST_ID: said?.hosts?.id,
    OVERTONE_HOSTS_SECRET: said?.hosts?.secret
  }
  const hosts = Object.entries(open).filter(([name, value]) => value !== undefined && !there[name]?.trim())
  return {
    ...(said?.cards === undefined ? {} : { CUDA_VISIBLE_DEVICES: said.cards.join(",") }),
    ...(said?.memoryShare === undefined ? {} : { OVERTONE_GPU_MEMORY: `${said.memoryShare}` }),
    ...Object.fromEntries(hosts.map(([name, value]) => [name, `${value}`]))
  }
}

/**
 * Where the tasks of a command run. Fails with what is wrong with flags or file.
 * @param near the experiment, or the working directory
 * @param json whether scripts are told of an invalid file
 */
export const executing = Effect.fnUntraced(function* (near: string, json: boolean, sharing: Sharing = {}) {
  const { device, executor } = yield* root
  const said = yield* fileFor(near, json)
  const provider = decided(Option.getOrElse(device, () => said?.device ?? "auto"))
  const { devices, mesh } = sharing
  const flagged = devices !== undefined || mesh !== undefined
  const { meshOf } = yield* Effect.promise(() => import("./mesh.ts"))
  const where: Executing = {
    provider,
    mesh: flagged ? yield* meshOf(provider, devices, mesh) : said?.mesh,
    jobs: said?.jobs,
    environment: environmentOf(said),
    flags: [
      ...(Option.isSome(executor) ? ["--executor", executor.value] : []),
      ...(Option.isSome(device) ? ["--device", device.value] : []),
      ...(devices === undefined ? [] : ["--devices", `${devices}`]),
      ...(mesh === undefined ? [] : ["--mesh", mesh])
    ]
  }
  return where
})

const lookForCards = async (): Promise<Cards | Missing> => {
  const { findCards } = await import("../device/xla/cards.ts")
  return findCards()
}

/** How many cards a device has, where it is one of cards; or why it is not here. Never rejects. */
export const look = async (
  provider: Provider,
  findCards = lookForCards
): Promise<{ readonly cards?: number } | Missing> => {
  if (provider === "cpu") return {}
  if (provider === "xla:cuda") {
    const found = await findCards()
    return "missing" in found ? found : { cards: found.cards.length }
  }
  if (provider !== "webgpu") {
    const { locatePlugin, pluginOf } = await import("../device/xla/plugins.ts")
    const found = locatePlugin(pluginOf(provider)!)
    return "missing" in found ? found : {}
  }
  const { BadBound, fallbackBound } = await import("../device/onnx/webgpu/fallbackBound.ts")
  try {
    fallbackBound()
  } catch (error) {
    if (error instanceof BadBound) return { missing: error.message }
    throw error
  }
  const { findAdapter } = await import("../device/onnx/webgpu/adapter.ts")
  const found = await findAdapter()
  return "missing" in found ? found : {}
}

/** How many cards the device has, where it has cards: it must be here, and have as many as a task takes. What runs asks for. */
export const cardsHere = Effect.fnUntraced(function* ({ mesh, provider }: Pick<Executing, "mesh" | "provider">) {
  yield* oneHost
  const found = yield* Effect.promise(() => look(provider))
  if ("missing" in found) return yield* usage(`device ${provider}: ${found.missing}`)
  if (mesh === undefined) return found.cards
  const { misfit } = yield* Effect.promise(() => import("../device/misfit.ts"))
  const unfit = misfit(provider, mesh, found.cards)
  if (unfit !== undefined) return yield* usage(`device ${provider}: ${unfit}`)
  return found.cards
})

/** Runs an effect with variables set in this process's environment, as its children get it, and puts back what was there. */
export const under =
  (variables: Readonly<Record<string, string>>) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        const before = Object.keys(variables).map((name) => [name, process.env[name]] as const)
        Object.assign(process.env, variables)
        return before
      }),
      () => effect,
      (before) =>
        Effect.sync(() => {
          for (const [name, value] of before) {
            if (value === undefined) delete process.env[name]
            else process.env[name] = value
          }
        })
    )
