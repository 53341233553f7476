/** `exp init`: a folder that works (its whole way is `scripts/pack-check.sh`), and nothing of anybody's overwritten. */
import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it, vi } from "@effect/vitest"
import { Effect } from "effect"
import { TestConsole } from "effect/testing"
import { loadExperiment } from "../../src/dsl/load.ts"
import { main } from "../../src/main.ts"
import { freshFolder } from "../support/folders.ts"
import { root } from "../support/imports.ts"

const fresh = freshFolder("init")
const init = (...argv: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const code = yield* main(["init", ...argv])
    return { code, text: [...(yield* TestConsole.logLines), ...(yield* TestConsole.errorLines)].join("\n") }
  }).pipe(Effect.provide(TestConsole.layer))
const manifest = (dir: string) => JSON.parse(readFileSync(join(dir, "package.json"), "utf8"))

describe("exp init", () => {
  it.live("in the folder itself asks for no cd", () =>
    Effect.gen(function* () {
      const dir = fresh()
      mkdirSync(dir, { recursive: true })
      // As npm scripts are told where they were called.
      vi.stubEnv("INIT_CWD", dir)
      vi.stubEnv("npm_package_json", join(process.cwd(), "package.json"))
      const { code, text } = yield* init().pipe(Effect.ensuring(Effect.sync(() => vi.unstubAllEnvs())))
      assert.strictEqual(code, 0, text)
      assert.match(text, /of your own\.\n\n {2}npm install\n/)
      assert.isTrue(existsSync(join(dir, "pipelines/mine.ts")))
    })
  )

  it.live("starts a folder with a pipeline, a stage, a reward and an experiment, and says what comes next", () =>
    Effect.gen(function* () {
      const dir = join(fresh(), "My Lab")
      const { code, text } = yield* init(dir)
      assert.strictEqual(code, 0, text)
      assert.match(text, /\n {2}cd ".*My Lab"\n {2}npm install\n {2}npx exp run experiments\/first\.yaml/)
      for (const file of [
        "pipelines/mine.ts",
        "stages/wordiness.ts",
        "rewards/mine.ts",
        "rewards/mine.py",
        "README.md"
      ]) {
        assert.isTrue(existsSync(join(dir, file)), file)
      }
      assert.deepInclude(manifest(dir), { name: "my-lab", type: "module", private: true })
      assert.match(readFileSync(join(dir, ".gitignore"), "utf8"), /warehouse\/store/)
    })
  )

  it.live(
    "adds to the manifest that npm has made there, and changes nothing that it says but the type of modules",
    () =>
      Effect.gen(function* () {
        const dir = fresh()
        const had = {
          name: "given",
          type: "commonjs",
          dependencies: { overtone: "file:../o.tgz" },
          scripts: { check: "x" }
        }
        writeFileSync(join(dir, "package.json"), JSON.stringify(had))
        assert.strictEqual((yield* init(dir)).code, 0)
        const made = manifest(dir)
        assert.deepInclude(made, { name: "given", type: "module", scripts: { check: "x", exp: "exp" } })
        assert.strictEqual(made.dependencies.overtone, "file:../o.tgz")
        assert.isString(made.devDependencies.typescript)
      })
  )

  it.live("refuses where a file of its own is there already, and writes nothing", () =>
    Effect.gen(function* () {
      const dir = fresh()
      writeFileSync(join(dir, "README.md"), "mine\n")
      const { code, text } = yield* init(dir)
      assert.strictEqual(code, 2)
      assert.match(text, /has README\.md already; nothing was written/)
      assert.deepStrictEqual(readdirSync(dir), ["README.md"])
      assert.strictEqual(readFileSync(join(dir, "README.md"), "utf8"), "mine\n")
    })
  )

  it("has a reward in Python that answers as the protocol asks", () => {
    const rows = [{ completion: "one two three four" }, { completion: "" }]
    const batch = JSON.stringify({ id: 7, step: 0, reward: "brevity", params: { most: 2 }, rows })
    const said = execFileSync("python3", [join(root, "templates/rewards/mine.py")], { input: `${batch}\n` })
    assert.deepStrictEqual(JSON.parse(said.toString()), { id: 7, scores: [0.5, 1] })
  })

  it.live("has an experiment that is valid", () =>
    Effect.gen(function* () {
      const templates = join(root, "templates")
      const loaded = yield* loadExperiment(join(templates, "experiments", "first.yaml"), { projectRoot: templates })
      assert.deepStrictEqual(
        loaded.variants.map(({ arm }) => arm),
        ["weight=0", "weight=1"]
      )
    })
  )
})
