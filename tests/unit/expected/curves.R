# Kaplan-Meier and cumulative incidence on survival's rotterdam, colon and mgus2, overall and by two strata each, and tests and
# a Cox model on colon: Rscript curves.R, in this folder. r-cran-survival (Debian).
suppressMessages(library(survival))
digits <- function(x) sprintf("%.14g", x)
save <- function(table, name) write.csv(table, paste0("curves/", name, ".csv"), row.names = FALSE, quote = FALSE)
deaths <- colon[colon$etype == 2, ]
data <- list(
  rotterdam = with(rotterdam, data.frame(day = dtime, cause = death, grade = grade, meno = meno)),
  colon = with(deaths, data.frame(day = time, cause = status, rx = as.character(rx), sex = sex)),
  mgus2 = with(mgus2, data.frame(day = ifelse(pstat == 1, ptime, futime),
    cause = ifelse(pstat == 1, 1, ifelse(death == 1, 2, 0)), sex = as.character(sex), old = as.integer(age >= 70))))
counts <- NULL; expected <- NULL
for (name in names(data)) {
  part <- data[[name]]
  strata <- setdiff(names(part), c("day", "cause"))
  slices <- list(list("all", "all", rep(TRUE, nrow(part))))
  for (stratum in strata) for (level in sort(unique(part[[stratum]])))
    slices <- c(slices, list(list(stratum, level, part[[stratum]] == level)))
  times <- if (name == "mgus2") c(6, 24, 60, 120, 240) else c(180, 365, 730, 1826, 2500)
  for (slice in slices) {
    rows <- part[slice[[3]], ]
    about <- data.frame(data = name, stratum = slice[[1]], level = slice[[2]])
    n <- aggregate(list(n = rep(1, nrow(rows))), list(day = rows$day, cause = rows$cause), sum)
    counts <- rbind(counts, cbind(about, n))
    events <- if (name == "mgus2") 1:2 else 1
    for (cause in events) {
      fit <- if (name == "mgus2") survfit(Surv(day, factor(cause, 0:2)) ~ 1, data = rows) else
        survfit(Surv(day, cause) ~ 1, data = rows, conf.type = "log-log")
      found <- summary(fit, times = times, extend = TRUE)
      of <- if (name == "mgus2") list(found$pstate[, cause + 1], found$std.err[, cause + 1]) else
        list(found$surv, found$std.err)
      expected <- rbind(expected, cbind(about, data.frame(
        cause, day = found$time, estimate = digits(of[[1]]), se = digits(of[[2]]))))
    }
  }
}
save(counts, "counts"); save(expected, "expected")

colon_data <- data$colon
colon_data$nodes <- ifelse(deaths$node4 == 1, "many", "few")
colon_data <- transform(colon_data, day = ceiling(day / 30))  # ties
patterns <- aggregate(list(n = rep(1, nrow(colon_data))), colon_data, sum)
save(patterns, "colon")
chisq <- function(fit) digits(fit$chisq)
fit <- coxph(Surv(day, cause) ~ rx + nodes + strata(sex), data = transform(colon_data, rx = factor(rx, c("Obs", "Lev", "Lev+5FU"))),
             ties = "efron", control = coxph.control(eps = 1e-12, toler.chol = 1e-13, iter.max = 50))
save(data.frame(name = c("rx", "rx within sex", names(coef(fit))),
  value = c(chisq(survdiff(Surv(day, cause) ~ rx, colon_data)), chisq(survdiff(Surv(day, cause) ~ rx + strata(sex), colon_data)),
            digits(coef(fit)))), "colon_tests")
