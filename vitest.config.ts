import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // They only end what hangs: a test takes a minute at most, and many times that on a machine that is full.
    testTimeout: 900_000,
    hookTimeout: 900_000,
    // On a shared machine a clock may run away from a test that has one. What took a second try is said by name at the end.
    retry: process.env["CI"] === "true" ? 1 : 0,
    reporters: ["default", "./test/support/summary.ts"]
  }
})
