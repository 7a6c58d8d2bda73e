# Net survival of relsurv's colrec with slopop, overall and by two strata, from R: Rscript net_survival.R, in this folder.
# r-cran-relsurv 2.2-9 (Debian). Writes the data as read and the expected estimates.
suppressMessages({library(survival); library(relsurv)})
data(colrec); data(slopop)

epoch <- as.numeric(as.Date("1960-01-01"))
people <- data.frame(
  person = seq_len(nrow(colrec)), sex = ifelse(colrec$sex == 1, "male", "female"),
  diagnosis = as.Date(as.numeric(colrec$diag) + epoch, origin = "1970-01-01"), age_days = colrec$age,
  days = colrec$time, died = colrec$stat, stage = colrec$stage)
write.csv(people, "net_survival/colrec.csv", row.names = FALSE, quote = FALSE)

dims <- dimnames(slopop)
rates <- expand.grid(age = as.integer(dims[[1]]), year = as.integer(dims[[2]]), sex = c("male", "female"))
rates$probability_of_death <- sprintf("%.15g", 1 - exp(-as.vector(unclass(slopop)) * 365.241))
rates <- rates[rates$year >= 1990, ]  # those of before have gaps, and nobody here was diagnosed then
write.csv(rates[, c("sex", "year", "age", "probability_of_death")], "net_survival/slopop.csv", row.names = FALSE,
          quote = FALSE)

times <- sort(unique(c(floor(30.4375 * seq(1, 190, by = 3)), floor(365.241 * 1:15))))
expected <- NULL
strata <- list(all = rep("all", nrow(colrec)), sex = people$sex, stage = as.character(colrec$stage))
for (stratum in names(strata)) for (level in sort(unique(strata[[stratum]]))) for (method in c("pohar-perme", "ederer2")) {
  part <- colrec[strata[[stratum]] == level, ]
  # A daily grid, as the program's. Ederer II has none in R: days on which nobody dies or leaves are passed over.
  fit <- rs.surv(Surv(time, stat) ~ 1, data = part, ratetable = slopop, method = method, add.times = 1:max(part$time),
                 rmap = list(age = age, sex = sex, year = diag))
  at <- times[times <= max(part$time)]
  found <- summary(fit, times = at)
  expected <- rbind(expected, data.frame(
    stratum, level, estimator = ifelse(method == "ederer2", "net_survival_ederer2", "net_survival_pohar_perme"),
    time_days = at, estimate = sprintf("%.12g", found$surv), se = sprintf("%.12g", found$std.err),
    lower = sprintf("%.12g", found$lower), upper = sprintf("%.12g", found$upper), at_risk = found$n.risk))
}
write.csv(expected, "net_survival/expected.csv", row.names = FALSE, quote = FALSE)
