/** The root command: what every command takes, and where its files lie. */
import { existsSync, realpathSync, statSync } from "node:fs"
import { dirname, join, relative, resolve } from "node:path"
import { Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import { usage } from "./failure.ts"

/** What `--device` may name: those of an executor file (`dsl/executor.ts`, which is loaded where one is read; a test compares). */
export const devices = [
  ...(["auto", "cpu", "webgpu", "xla:cpu", "xla:cuda"] as const),
  ...(["xla:rocm", "xla:oneapi", "xla:tpu", "xla:metal"] as const)
] as const
export type Device = (typeof devices)[number]

export const root = Command.make("exp").pipe(
  Command.withSharedFlags({
    warehouse: Flag.String("warehouse").pipe(
      Flag.withDescription("Folder of databases, journals and artifacts (default: warehouse/store in the project)"),
      Flag.withMetavar("DIR"),
      Flag.optional
    ),
    device: Flag.Literals("device", devices).pipe(
      Flag.withDescription("What computes (default: auto, which never picks a software adapter)"),
      Flag.optional
    ),
    executor: Flag.String("executor").pipe(
      Flag.withDescription(
        "Where tasks run: device, cards, mesh, jobs (default: executor.yaml in the project, if any)"
      ),
      Flag.withMetavar("FILE"),
      Flag.optional
    )
  }),
  Command.withDescription(
    "Experiments on pluralistic alignment: one YAML file is one ablation, and SQL answers what it found."
  )
)

/** `--json` of the commands that have people's and machines' output. */
export const json = Flag.Boolean("json").pipe(
  Flag.withDescription("Print JSON on stdout and nothing else there"),
  Flag.withDefault(false)
)

/** `--set key=value`, any number of times; values are YAML and may contain `=`. */
export const set = Flag.String("set").pipe(
  Flag.withDescription("Override a parameter, e.g. grpo.steps=10 (repeatable; the value is YAML)"),
  Flag.withMetavar("KEY=VALUE"),
  Flag.atLeast(0)
)

const real = (path: string): string => (existsSync(path) ? realpathSync(path) : path)

/**
 * Where the command was typed. pnpm and npm change to the folder of the `package.json` before they start a script, and
 * say in INIT_CWD where they were called; a script that has gone elsewhere since means its own working directory.
 */
export const typedIn = (): string => {
  const { INIT_CWD: called, npm_package_json: manifest } = process.env
  if (called === undefined || manifest === undefined || !existsSync(called)) return process.cwd()
  return real(dirname(manifest)) === real(process.cwd()) ? called : process.cwd()
}

/** A file as typed: relative to where the command was typed; what is not there may be meant from the project's root. */
export const located = (path: string): string => {
  const typed = resolve(typedIn(), path)
  return !existsSync(typed) && existsSync(path) ? resolve(path) : typed
}

/** A path as a person there would name it. */
export const nearby = (path: string): string => {
  const away = relative(typedIn(), path)
  return away === "" ? "." : away.startsWith("..") ? path : away
}

/** The project that a file or folder belongs to. */
export const projectRoot = (from: string): Effect.Effect<string> =>
  Effect.map(
    Effect.promise(() => import("../dsl/resolve.ts")),
    ({ projectRootOf }) => projectRootOf(from)
  )

/** The warehouse folder: `--warehouse`, else `warehouse/store` of the project that `near` (a file's folder) belongs to. */
export const warehouseDir = Effect.fnUntraced(function* (near: string = process.cwd()) {
  const { warehouse } = yield* root
  const dir = Option.isSome(warehouse)
    ? resolve(typedIn(), warehouse.value)
    : join(yield* projectRoot(near), "warehouse", "store")
  let there = dir
  while (!existsSync(there)) there = dirname(there)
  if (statSync(there).isDirectory()) return dir
  return yield* usage(`${there} is a file: a warehouse is a folder; --warehouse names another`)
})
