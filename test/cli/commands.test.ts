/** The commands in process, on a project of toy stages: what they print, where, and with which exit code. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { afterAll } from "vitest"
import { exp, json } from "./support.ts"

const home = mkdtempSync(join(tmpdir(), "overtone-cli-"))
afterAll(() => rmSync(home, { recursive: true, force: true }))

const project = join(import.meta.dirname, "project")
const climb = join(project, "experiments", "climb.yaml")
const warehouse = join(home, "store")

describe("a wrong command line", () => {
  it.live.each([
    [["run", climb, "--no-such-flag"], /no-such-flag/],
    [["runn", climb], /runn/],
    [["run"], /FILE/],
    [["run", join(home, "nowhere.yaml")], /nowhere\.yaml/],
    [["run", climb, "--jobs", "0"], /--jobs 0/],
    [["run", climb, "--jobs", "many"], /many/],
    [["run", climb, "--limit", "0"], /--limit 0/],
    [["run", climb, "--keep-going", "--fail-fast"], /opposite/],
    [["run", climb, "--devices", "3", "--mesh", "data=2,model=2"], /2 x 2 = 4 devices, and --devices says 3/],
    [["run", climb, "--mesh", "tensor=2"], /no axis "tensor"; the axes are data, fsdp, model/],
    [["run", climb, "--devices", "4"], /--devices 4: the device cpu is one; .*--device xla:cuda, xla:cpu/],
    [["--warehouse", warehouse, "run", climb, "--only", "nothing"], /nothing.*climb, evaluate, start/],
    [["--device", "xla:cuda", "run", climb], /device xla:cuda: .*(exp device install nvidia|driver|card)/],
    [["--device", "abacus", "run", climb], /abacus/],
    [["sql", "from cells", "--format", "xml"], /xml/],
    [["--warehouse", join(home, "none"), "sql", "select 1"], /no database yet/],
    [["--warehouse", join(home, "none"), "rebuild"], /no warehouse/],
    [["run", project], /project is a folder: name an experiment's YAML file/],
    [["--warehouse", climb, "run", climb], /climb\.yaml is a file: a warehouse is a folder/],
    [["--warehouse", join(climb, "deep", "er"), "ls"], /climb\.yaml is a file: a warehouse is a folder/]
  ] as const)("%j", ([argv, message]) =>
    Effect.gen(function* () {
      const said = yield* exp(...argv)
      assert.strictEqual(said.code, 2, said.err)
      assert.strictEqual(said.out, "")
      assert.match(said.err, message)
      assert.notMatch(said.err, /^\s+at /m)
      assert.isFalse(existsSync(join(home, "none")))
    })
  )

  // Node's own recursive mkdir never ends there.
  it.live.skipIf(!existsSync("/proc/self"))("a warehouse where no folder can be made ends with its name", () =>
    Effect.gen(function* () {
      const said = yield* exp("--warehouse", "/proc/none/deep", "run", climb)
      assert.strictEqual(said.code, 1)
      assert.match(said.err, /creating \/proc\/none/)
    })
  )

  it.live("an arithmetic that the device does not have is refused, never computed in another", () =>
    Effect.gen(function* () {
      const file = join(home, "half.yaml")
      const pipeline = JSON.stringify(join(project, "pipelines", "climb.ts"))
      writeFileSync(file, `name: half\npipeline: ${pipeline}\ncompute: { dtype: bf16 }\n`)
      const said = yield* exp("--warehouse", join(home, "none"), "run", file)
      assert.strictEqual(said.code, 2, said.err)
      assert.match(said.err, /compute\.dtype bf16: .*cpu computes in f32 only/)
      writeFileSync(file, `name: half\npipeline: ${pipeline}\ncompute: { deterministic: true }\n`)
      const unordered = yield* exp("--warehouse", join(home, "none"), "--device", "webgpu", "plan", file)
      assert.strictEqual(unordered.code, 2, unordered.err)
      assert.match(unordered.err, /compute\.deterministic: the device webgpu adds up in the order/)
      assert.isFalse(existsSync(join(home, "none")))
    })
  )

  it.live("asked for help it answers on stdout, and ends well", () =>
    Effect.gen(function* () {
      for (const argv of [["--help"], ["run", "--help"], []]) {
        const said = yield* exp(...argv)
        assert.strictEqual(said.code, 0)
        assert.match(said.out, /USAGE/)
        assert.strictEqual(said.err, "")
      }
    })
  )
})

describe("an invalid experiment", () => {
  const bad = join(home, "bad.yaml")
  writeFileSync(
    bad,
    `name: bad\npipeline: ${join(project, "pipelines/climb.ts")}\nsweeep: 1\nparams:\n  climb.stepz: 3\n`
  )

  it.live.each(["run", "plan"])("%s tells scripts every error with its place, and creates nothing", (command) =>
    Effect.gen(function* () {
      const none = join(home, "invalid")
      const said = yield* exp("--warehouse", none, command, bad, "--json", "--set", "climb.stride=far")
      assert.strictEqual(said.code, 3)
      const [{ errors }] = json(said)
      assert.includeDeepMembers(
        errors.map((e: { line: number; path: string }) => [e.line, e.path]),
        [
          [3, "sweeep"],
          [5, "params.climb.stepz"]
        ]
      )
      assert.isTrue(errors.some((e: { hint: string | null }) => /climb\.steps/.test(e.hint ?? "")))
      for (const error of errors) assert.hasAllKeys(error, ["file", "line", "col", "path", "message", "hint"])
      assert.isFalse(existsSync(none))
    })
  )

  it.live("tells people on stderr, one line each", () =>
    Effect.gen(function* () {
      const said = yield* exp("--warehouse", join(home, "invalid"), "run", bad)
      assert.strictEqual(said.code, 3)
      assert.strictEqual(said.out, "")
      assert.match(said.err, /bad\.yaml:3:1 sweeep/)
      assert.match(said.err, /nothing was created/)
    })
  )
})

describe("from plan to answers", () => {
  it.live("plans, runs, runs nothing again, answers, and rebuilds", () =>
    Effect.gen(function* () {
      // a second try begins anew
      rmSync(warehouse, { recursive: true, force: true })
      const here = (...argv: ReadonlyArray<string>) => exp("--warehouse", warehouse, ...argv)
      const before = yield* here("plan", climb)
      assert.match(before.out, /^climb: 4 cells, 9 tasks \(12 unshared\), 0 cached, 9 new\n/)
      assert.isFalse(existsSync(warehouse))

      const first = yield* here("run", climb, "--json")
      assert.strictEqual(first.code, 0, first.err)
      const events = json(first)
      assert.deepInclude(events.at(-1), {
        type: "summary",
        experiment: "climb",
        ran: 9,
        cached: 0,
        failed: 0,
        cells: 4
      })
      const started = events.filter((e) => e.type === "task" && e.state === "started")
      assert.strictEqual(started.length, 9)
      for (const event of started) assert.isNumber(event.pid)
      assert.isTrue(events.some((e) => e.type === "progress" && e.step === 3 && e.of === 3))

      const second = yield* here("run", climb)
      assert.strictEqual(second.code, 0)
      assert.match(second.out, /Nothing had to be done: 9 tasks cached \(ran: 0\)/)
      assert.match(second.out, /eval\/height +stride=2 .*\+3\.000/)
      assert.match(second.out, /exp --warehouse .* sql "from ablation where experiment = 'climb'"/)

      const cached = json(yield* here("plan", climb, "--json"))[0]
      assert.isTrue(cached.tasks.every((task: { state: string }) => task.state === "cached"))
      const stale = yield* here("plan", climb, "--set", "climb.steps=5")
      assert.match(stale.out, /1 cached, 8 stale/)
      assert.match(stale.out, /climb\.steps 3 → 5/)

      const [row] = JSON.parse(
        (yield* here("sql", "select count(*) as n, max(params) p from cells", "--format", "json")).out
      )
      assert.strictEqual(row.n, 4)
      assert.strictEqual(row.p.climb.stride, 2)
      assert.match((yield* here("sql", "from ablation", "--format", "csv")).out, /^experiment,metric,arm/)
      // As the files of warehouse/queries say that they are asked.
      const question = readFileSync(join(import.meta.dirname, "../../warehouse/queries/ablation.sql"), "utf8")
      assert.match(question, /^-- /)
      assert.match((yield* here("sql", question, "--format", "csv")).out, /^experiment,metric,arm/)
      for (const query of ["create table x(i int)", `copy cells to '${home}/x.csv'`, "select 1; select 2", "selec 1"]) {
        assert.strictEqual((yield* here("sql", query)).code, 2, query)
      }

      const [list] = json(yield* here("ls", "--json"))
      assert.deepInclude(list.experiments[0], { experiment: "climb", cells: 4, done: 4, last_run_state: "done" })
      assert.match((yield* here("ls")).out, /climb +4/)

      const { out: counts } = yield* here("rebuild")
      assert.match(counts, /^cells +4$/m)
      assert.match(counts, /^items +16$/m)
      assert.strictEqual((yield* here("sql", "select count(*) as n from items", "--format", "csv")).out, "n\n16\n")
    })
  )

  it.live("shows each kind of thing by its name or a prefix, and says when there is more than one", () =>
    Effect.gen(function* () {
      const here = (...argv: ReadonlyArray<string>) => exp("--warehouse", warehouse, ...argv)
      const show = (id: string) => Effect.map(here("show", id, "--json"), (said) => json(said)[0])
      const ask = (query: string) =>
        Effect.map(here("sql", query, "--format", "json"), (said) => JSON.parse(said.out)[0])

      const experiment = yield* show("climb")
      assert.deepInclude(experiment, { kind: "experiment", cells: experiment.cells })
      assert.strictEqual(experiment.cells.length, 4)
      assert.strictEqual(experiment.ablation.length, 1)

      const cell = yield* show("climb/stride=2/seed=1")
      assert.deepInclude(cell, { kind: "cell", arm: "stride=2", seed: 1, state: "done" })
      assert.deepStrictEqual(
        cell.tasks.map((t: { node: string }) => t.node),
        ["climb", "evaluate", "start"]
      )

      const { task_key: key } = yield* ask("select task_key from tasks where stage = 'climb' order by 1 limit 1")
      const task = yield* show(key.slice(0, 12))
      assert.deepInclude(task, { kind: "task", task_key: key, stage: "climb", state: "done" })
      assert.strictEqual(task.attempts.length, 1)
      assert.strictEqual(task.metrics[0].name, "reward")

      assert.strictEqual((yield* show(task.attempts[0].attempt_id)).kind, "attempt")
      assert.strictEqual((yield* show(task.artifacts[0].sha256.slice(0, 16))).kind, "artifact")
      const { sample_id: id } = yield* ask("select sample_id from samples order by 1 limit 1")
      const sample = yield* show(id)
      assert.strictEqual(sample.kind, "sample")
      assert.strictEqual(sample.parts[0].name, "height")
      assert.match((yield* here("show", id)).out, /how high is/)

      const several = yield* here("show", "0")
      if (several.code !== 0) assert.match(several.err, /could be any of these|nothing in/)
      const nothing = yield* here("show", "no such thing")
      assert.strictEqual(nothing.code, 2)
      assert.match(nothing.err, /`exp ls`/)
    })
  )

  it.live("compares arms and values of a parameter, for people and for scripts, and says what it does not know", () =>
    Effect.gen(function* () {
      const compare = (...argv: ReadonlyArray<string>) => exp("--warehouse", warehouse, "compare", ...argv)
      const arms = json(yield* compare("climb", "--json"))[0]
      assert.deepInclude(arms, { experiments: ["climb"], by: "arm", family: 1 })
      const [row] = arms.rows
      // Every prompt is 3 higher by the longer stride, with both seeds: no spread to measure an effect in.
      assert.deepInclude(row, { metric: "eval/height", arm: "stride=2", baseline: "stride=1" })
      assert.closeTo(row.difference, 3, 1e-9)
      assert.deepInclude(row, { n_seeds: 2, n_prompts: 4, superiority: 1, effect: null, unpaired: 0 })
      assert.deepInclude(row, { p: 2 / 16, p_holm: 2 / 16, test: "sign flips over prompts only (2 seeds)" })
      // The same interval as the ablation's.
      const [ablation] = JSON.parse(
        (yield* exp("--warehouse", warehouse, "sql", "from ablation", "--format", "json")).out
      )
      for (const [name, value] of Object.entries(ablation)) assert.strictEqual(row[name], value, name)

      const shorter = json(yield* compare("climb", "--by", "climb.stride", "--baseline", "2", "--json"))[0]
      assert.deepInclude(shorter.rows[0], { arm: "1", baseline: "2", superiority: 0 })
      assert.closeTo(shorter.rows[0].difference, -3, 1e-9)
      assert.match((yield* compare("climb", "--metric", "eval/*")).out, /eval\/height +stride=2 .*100 %/)
      // Of p0, seed s: heights after three steps are k (stride + s / 10), so the mean over them doubles a stride's difference
      // and the last alone triples it. One value a seed, two seeds: no interval.
      for (const [argv, difference] of [
        [[], 2],
        [["--last", "1"], 3]
      ] as const) {
        const [steps] = json(yield* compare("climb", "--metric", "climb:rew*", ...argv, "--json"))[0].rows
        assert.deepInclude(steps, {
          metric: "climb:reward",
          arm: "stride=2",
          n_seeds: 2,
          n_prompts: 1,
          p: null,
          low: null
        })
        assert.closeTo(steps.difference, difference, 1e-9)
      }
      const both = yield* compare("climb", "--metric", "climb:reward", "--metric", "eval/height")
      assert.match(both.out, /climb:reward +stride=2.*eval\/height +stride=2.*mean of each run's last 10 steps/s)
      assert.match((yield* compare("climb", "--csv")).out, /^experiment,metric,arm,.*\nclimb,eval\/height,stride=2,/)

      for (const [argv, message] of [
        [["clime"], /no experiment is called clime \(did you mean climb\?\)/],
        [["climb", "--metric", "eval/hieght"], /no metric is called eval\/hieght \(did you mean eval\/height\?\)/],
        [["climb", "--metric", "train/*"], /no metric is called train\/\*/],
        [["climb", "--metric", "climb:rewrad"], /no metric is called climb:rewrad \(did you mean climb:reward\?\)/],
        [["climb", "--last", "0"], /--last is a number of steps from 1 on, not 0/],
        [["climb", "--baseline", "stride=3"], /no arm is called stride=3.*there are stride=1, stride=2/],
        [["climb", "--arm", "strid=2"], /did you mean stride=2\?/],
        [["climb", "--by", "climb.strid"], /no parameter is called climb\.strid \(did you mean climb\.stride\?\)/],
        [["climb", "--by", "climb.steps"], /there is one value of climb\.steps only, 3/],
        [["climb", "--json", "--csv"], /two formats/],
        [[], /EXPERIMENT/]
      ] as const) {
        const said = yield* compare(...argv)
        assert.strictEqual(said.code, 2, argv.join(" "))
        assert.strictEqual(said.out, "")
        assert.match(said.err, message)
      }
    })
  )

  it.live("a failed task is exit 4, the rest is kept, and the next run tries again", () =>
    Effect.gen(function* () {
      const dir = join(home, "failing")
      const run = (...more: ReadonlyArray<string>) => exp("--warehouse", dir, "run", climb, "--limit", "1", ...more)
      const failed = yield* run("--set", "climb.fallAt=1", "--json")
      assert.strictEqual(failed.code, 4, failed.err)
      const events = json(failed)
      const failure = events.find((e) => e.type === "task" && e.state === "failed")
      assert.match(failure.failure.message, /fell at step 1/)
      assert.isTrue(existsSync(join(dir, failure.failure.log)))
      assert.deepInclude(events.at(-1), { ran: 1, failed: 1, cells: 1 })

      const again = yield* run("--set", "climb.fallAt=1")
      assert.strictEqual(again.code, 4)
      assert.match(again.err, /1 task failed \(climb: fell at step 1\).*--set climb\.fallAt=1 --limit 1/)
      // With nothing to compare there is no table, and nothing to do next but that.
      assert.notMatch(again.out, /Nothing to compare|Next:|metric/)

      const mended = yield* run("--json")
      assert.strictEqual(mended.code, 0)
      assert.deepInclude(json(mended).at(-1), { ran: 2, cached: 1, failed: 0 })
    })
  )

  it.live("a broken gate is exit 5, a kept one is not", () =>
    Effect.gen(function* () {
      const gated = (min: number) => {
        const file = join(home, `gate-${min}.yaml`)
        const text = readFileSync(climb, "utf8").replace(
          "pipeline: climb",
          `pipeline: ${join(project, "pipelines/climb.ts")}`
        )
        writeFileSync(file, `${text}  gates:\n    - { metric: eval/height, of: difference, min: ${min} }\n`)
        return file
      }
      const kept = yield* exp("--warehouse", warehouse, "run", gated(2.5), "--json")
      assert.strictEqual(kept.code, 0, kept.err)
      const broken = yield* exp("--warehouse", warehouse, "run", gated(3.5), "--json")
      assert.strictEqual(broken.code, 5)
      assert.match(broken.err, /difference of eval\/height of stride=2 must be at least 3\.5\d*; it is 3/)
      assert.strictEqual(json(broken).at(-1).type, "summary")
      const narrowed = yield* exp("--warehouse", warehouse, "run", gated(3.5), "--limit", "3")
      assert.strictEqual(narrowed.code, 0, narrowed.err)
      assert.match(narrowed.out, /^1 gate not checked: the run was narrowed by --only or --limit\.$/m)
      const one = yield* exp("--warehouse", warehouse, "run", gated(3.5), "--only", "start", "--json")
      assert.strictEqual(one.code, 0)
      assert.match(one.err, /1 gate not checked/)
    })
  )
})

describe("what the machine has", () => {
  it.live("doctor names every part, for people and for scripts", () =>
    Effect.gen(function* () {
      const said = yield* exp("doctor", "--json")
      const [{ ok, checks }] = json(said)
      assert.strictEqual(said.code, ok ? 0 : 1)
      const names = checks.map((check: { name: string }) => check.name)
      for (const name of ["node", "cores", "memory", "disk", "koffi", "onnxruntime", "duckdb", "webgpu", "executor"])
        assert.include(names, name)
      assert.match((yield* exp("doctor")).out, /onnxruntime +1\.\d+/)
    })
  )
})
