import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // On a shared machine a clock may run away from a test that has one. What took a second try is said by name at the end.
    retry: process.env["CI"] === "true" ? 1 : 0,
    reporters: ["default", "./test/support/summary.ts"]
  }
})
