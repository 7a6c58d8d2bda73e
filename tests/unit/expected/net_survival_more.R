# Crude probabilities, the test of groups, expected and period survival, age standardisation from R's relsurv and survival:
# Rscript net_survival_more.R, in this folder, after net_survival.R. r-cran-relsurv 2.2-9 (Debian).
#
# rs.surv looks a hazard up once a day; cmp.rel, rs.diff and survexp follow birthdays within the day, which moves them by
# about a part in 10,000. "flat" is a table in which hazards differ by sex alone, so that there is nothing to follow.
suppressMessages({library(survival); library(relsurv)})
data(colrec); data(slopop)
digits <- function(x) sprintf("%.12g", x)
save <- function(table, name) write.csv(table, paste0("net_survival/", name, ".csv"), row.names = FALSE, quote = FALSE)
flat <- slopop
for (sex in dimnames(slopop)[[3]]) flat[, , sex] <- if (sex == "male") 1e-4 else 5e-5
tables <- list(slopop = slopop, flat = flat)
times <- c(30, 365, 730, 1826, 3652)
colrec$sexes <- ifelse(colrec$sex == 1, "male", "female")
observed <- colrec[colrec$time > 0, ]

crude <- NULL; tests <- NULL; expected <- NULL
for (name in names(tables)) {
  table <- tables[[name]]
  fit <- cmp.rel(Surv(time, stat) ~ 1, data = observed, ratetable = table, rmap = list(age = age, sex = sex, year = diag),
                 precision = 1, add.times = times)
  for (cause in 1:2) {
    at <- match(times, fit[[cause]]$time)
    crude <- rbind(crude, data.frame(table = name, cause = c("cancer", "other")[cause], time_days = times,
      estimate = digits(fit[[cause]]$est[at]), se = digits(sqrt(fit[[cause]]$var[at]))))
  }
  for (group in c("sex", "stage")) {
    fit <- rs.diff(as.formula(paste("Surv(time, stat) ~", group)), data = observed, ratetable = table,
                   rmap = list(age = age, sex = sex, year = diag), precision = 1)
    tests <- rbind(tests, data.frame(table = name, group, statistic = digits(fit$test.stat), df = fit$df))
  }
  fit <- survexp(~1, data = observed, ratetable = table, rmap = list(age = age, sex = sex, year = diag), times = times,
                 method = "ederer")
  expected <- rbind(expected, data.frame(table = name, time_days = times, estimate = digits(fit$surv)))
}
save(crude, "crude"); save(tests, "tests"); save(expected, "expected_population")

# What happens in 1998 to 2000, of everyone diagnosed before.
epoch <- as.numeric(as.Date("1960-01-01"))
from <- as.numeric(as.Date("1998-01-01")) - epoch; until <- as.numeric(as.Date("2000-12-31")) - epoch
period <- transform(colrec, start = pmax(from - 1 - as.numeric(diag), 0), stop = pmin(time, until - as.numeric(diag)))
period$dies <- ifelse(period$stop == period$time, period$stat, 0)
period <- period[period$stop > period$start, ]
# rs.surv passes over Surv's start, but the sums that it is made of know it.
form <- relsurv:::rformulate(Surv(stop, dies) ~ 1, period, slopop, na.omit, quote(list(age = age, sex = sex, year = diag)))
sums <- relsurv:::exp.prep(form$R, form$Y, form$ratetable, form$status, times = as.numeric(1:max(period$stop)), fast = TRUE,
                           prec = 1, ys = period$start + 0.5)  # this version counts who enters on a day on that day
surv <- cumprod(1 - (sums$dnisi / sums$yisi - sums$yidlisiw))
log_se <- sqrt(cumsum(sums$dnisisq / sums$yisi^2))
at <- c(1, times[times <= max(period$stop)])
save(data.frame(time_days = at, estimate = digits(surv[at]), se = digits(surv[at] * log_se[at]),
  lower = digits(exp(log(surv[at]) - qnorm(0.975) * log_se[at])),
  upper = digits(exp(log(surv[at]) + qnorm(0.975) * log_se[at])),
  at_risk = sapply(at, function(day) sum(period$start < day & period$stop >= day))), "period")

# Age standardised to the International Cancer Survival Standard 1.
weights <- c(0.07, 0.12, 0.23, 0.29, 0.29)
group <- cut(colrec$age / 365.241, c(-Inf, 45, 55, 65, 75, Inf), right = FALSE, labels = FALSE)
sums <- 0; variances <- 0
years <- c(365, 1826)
for (g in 1:5) {
  part <- colrec[group == g, ]
  fit <- rs.surv(Surv(time, stat) ~ 1, data = part, ratetable = slopop, method = "pohar-perme",
                 add.times = 1:max(part$time), rmap = list(age = age, sex = sex, year = diag))
  found <- summary(fit, times = years)
  sums <- sums + weights[g] * found$surv
  variances <- variances + weights[g]^2 * found$std.err^2
}
save(data.frame(time_days = years, estimate = digits(sums), se = digits(sqrt(variances))), "standardised")
