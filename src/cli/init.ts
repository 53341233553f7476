/** `exp init [DIR]`: a folder to begin with, with a pipeline, a stage, a reward and an experiment of one's own. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { basename, dirname, join, relative, resolve } from "node:path"
import { Console, Effect } from "effect"
import { Argument, Command } from "effect/cli"
import manifest from "../../package.json" with { type: "json" }
import { usage } from "./failure.ts"
import { typedIn } from "./root.ts"

const templates = join(import.meta.dirname, "..", "..", "templates")

/** Templates whose own names would mean something to the tools of Overtone's repository. */
const renamed: Readonly<Record<string, string>> = { gitignore: ".gitignore", npmrc: ".npmrc" }

const tsconfig = {
  compilerOptions: {
    target: "ES2024",
    lib: ["ES2024", "ESNext.Iterator"],
    module: "NodeNext",
    types: ["node"],
    noEmit: true,
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    verbatimModuleSyntax: true,
    erasableSyntaxOnly: true,
    allowImportingTsExtensions: true,
    skipLibCheck: true
  },
  include: ["pipelines", "stages", "rewards"]
}

const wanted = (name: string) => ({
  name,
  private: true,
  type: "module",
  scripts: { exp: "exp", check: "tsc" },
  dependencies: { overtone: `^${manifest.version}`, effect: manifest.dependencies.effect },
  devDependencies: {
    "@types/node": manifest.devDependencies["@types/node"],
    typescript: manifest.devDependencies.typescript
  }
})

type Json = { readonly [key: string]: unknown }
const isObject = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value)

/** What is missing is added; what stands there stays. */
const completed = (have: Json, want: Json): Json => ({
  ...have,
  ...Object.fromEntries(
    Object.entries(want).flatMap(([key, value]) => {
      const old = have[key]
      return old === undefined ? [[key, value]] : isObject(old) && isObject(value) ? [[key, completed(old, value)]] : []
    })
  )
})

/** A package's name by its folder: npm allows no capitals, blanks or dots in front. */
const packageName = (dir: string): string =>
  basename(dir)
    .toLowerCase()
    .replaceAll(/[^a-z0-9._-]+/g, "-")
    .replace(/^[._-]+/, "") || "experiments"

/** The files of a new folder by their path in it, `package.json` apart. */
const files = (): ReadonlyMap<string, string> => {
  const found = readdirSync(templates, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  const texts = found.map((entry) => {
    const path = relative(templates, join(entry.parentPath, entry.name))
    return [renamed[path] ?? path, readFileSync(join(templates, path), "utf8")] as const
  })
  return new Map([...texts, ["tsconfig.json", `${JSON.stringify(tsconfig, null, 2)}\n`]])
}

const readManifest = (path: string) =>
  Effect.try({
    try: (): unknown => (existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : {}),
    catch: () => usage(`${path} is no JSON; mend it, or choose another folder`)
  })

export const init = Command.make(
  "init",
  {
    dir: Argument.String("dir").pipe(
      Argument.withDescription("The folder; made if it is not there"),
      Argument.withDefault(".")
    )
  },
  Effect.fn("exp.init")(function* ({ dir: given }) {
    const dir = resolve(typedIn(), given)
    const texts = files()
    const there = [...texts.keys()].filter((path) => existsSync(join(dir, path)))
    if (there.length > 0) {
      const many = there.length > 3 ? `${there.slice(0, 3).join(", ")} and ${there.length - 3} more` : there.join(", ")
      return yield* usage(`${dir} has ${many} already; nothing was written. Choose an empty folder: exp init my-lab`)
    }
    const manifestFile = join(dir, "package.json")
    const have = yield* readManifest(manifestFile)
    if (!isObject(have)) return yield* usage(`${manifestFile} is no object; mend it, or choose another folder`)
    // npm makes one of type "commonjs" by itself; modules here are ES modules.
    const project = { ...completed(have, wanted(packageName(dir))), type: "module" }
    yield* Effect.try({
      try: () => {
        for (const [path, text] of texts) {
          mkdirSync(dirname(join(dir, path)), { recursive: true })
          writeFileSync(join(dir, path), text)
        }
        writeFileSync(manifestFile, `${JSON.stringify(project, null, 2)}\n`)
      },
      catch: (cause) => usage(`cannot write to ${dir}: ${String(cause)}`)
    })
    const away = relative(typedIn(), dir)
    const next = [
      ...(away === "" ? [] : [/\s/.test(away) ? `cd "${away}"` : `cd ${away}`]),
      "npm install",
      "npx exp run experiments/first.yaml"
    ]
    yield* Console.log(`${dir}: a pipeline, a stage, a reward and an experiment of your own.

${next.map((line) => `  ${line}`).join("\n")}`)
  })
).pipe(Command.withDescription("Start a folder for experiments, pipelines and rewards of your own"))
