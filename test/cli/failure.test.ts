import { Cause, Data, Effect, Exit } from "effect"
import { CliError } from "effect/cli"
import { describe, expect, it } from "vitest"
import { CommandFailed, report, silently, usage } from "../../src/cli/failure.ts"
import { instructionSet } from "../../src/cli/machine.ts"
import { InvalidExperiment } from "../../src/dsl/problems.ts"
import { QueryRefused, WarehouseError, WarehouseInUse } from "../../src/warehouse/errors.ts"

class Odd extends Data.TaggedError("Odd")<{ readonly message: string }> {}

describe("exit codes", () => {
  it.each([
    [usage("no such file"), 2, "exp: no such file"],
    [silently(4), 4, ""],
    [new CommandFailed({ code: 5, message: "a gate failed" }), 5, "exp: a gate failed"],
    [new InvalidExperiment({ errors: [] }), 3, "exp: "],
    [new WarehouseInUse({ dir: "store", pid: 7 }), 2, /in use by another run \(process 7\)/],
    [new QueryRefused({ reason: "writes", detail: "it writes" }), 2, "exp: it writes"],
    [
      new WarehouseError({ reason: "journal", file: "runs/x.ndjson", detail: "is damaged" }),
      1,
      "exp: runs/x.ndjson: is damaged"
    ],
    [new Odd({ message: "the disk is full" }), 1, "exp: the disk is full"],
    [new CliError.ShowHelp({ commandPath: ["exp"], errors: [] }), 0, ""],
    [
      new CliError.ShowHelp({ commandPath: ["exp"], errors: [new CliError.MissingArgument({ argument: "FILE" })] }),
      2,
      ""
    ]
  ] as const)("%s", (error, code, text) => {
    const said = report(Cause.fail(error))
    expect(said.code).toBe(code)
    text instanceof RegExp ? expect(said.text).toMatch(text) : expect(said.text).toBe(text)
    expect(said.text).not.toMatch(/\n\s+at /)
  })

  it("an interruption is 130 and says nothing more", async () => {
    const exit = await Effect.runPromiseExit(Effect.interrupt)
    expect(Exit.isFailure(exit) && report(exit.cause)).toEqual({ code: 130, text: "" })
  })

  it("a bug is 1, with its cause and where to report it", () => {
    const said = report(Cause.die(new TypeError("x is undefined")))
    expect(said.code).toBe(1)
    expect(said.text).toMatch(/bug in Overtone[\s\S]*x is undefined[\s\S]*at [\s\S]*report/)
  })
})

describe("the instruction set", () => {
  it("is read from what Linux says of x64 and arm64", () => {
    expect(instructionSet("processor : 0\nflags\t\t: fpu sse2 avx avx2 fma\n", "x64")).toBe("x64 avx avx2 fma")
    expect(instructionSet("Features\t: fp asimd asimddp\n", "arm64")).toBe("arm64 asimd asimddp")
    expect(instructionSet(null, "arm64")).toBe("arm64")
  })
})
