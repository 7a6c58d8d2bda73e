# Competing risks, comparisons, restricted means, delayed entry, Cox and logistic models from R: Rscript models.R, in this
# folder. r-cran-survival (Debian). Writes the data as counts and the expected values.
suppressMessages(library(survival))
digits <- function(x) sprintf("%.14g", x)
save <- function(table, name) write.csv(table, paste0("models/", name, ".csv"), row.names = FALSE, quote = FALSE)
counts <- function(data) {  # the number of people of each pattern
  counted <- aggregate(list(n = rep(1, nrow(data))), data, sum)
  counted[do.call(order, counted), ]
}

# mgus2: progression or death, months; stratum sex.
competing <- with(mgus2, data.frame(
  stratum = "sex", level = as.character(sex), entry_day = 0L, day = as.integer(ifelse(pstat == 1, ptime, futime)),
  cause = ifelse(pstat == 1, 1L, ifelse(death == 1, 2L, 0L))))
competing <- rbind(transform(competing, stratum = "all", level = "all"), competing)
save(counts(competing), "competing_counts")
expected <- NULL
for (level in c("all", "F", "M")) {
  part <- competing[competing$level == level, ]
  fit <- survfit(Surv(day, factor(cause, 0:2)) ~ 1, data = part)
  found <- summary(fit, times = c(6, 12, 24, 60, 120, 240, 360), extend = TRUE)
  for (cause in 1:2) {
    F <- found$pstate[, cause + 1]; se <- found$std.err[, cause + 1]
    spread <- qnorm(0.975) * se / ((1 - F) * abs(log(1 - F)))
    expected <- rbind(expected, data.frame(
      stratum = part$stratum[1], level, cause, day = found$time, estimate = digits(F), se = digits(se),
      lower = digits(1 - (1 - F)^exp(-spread)), upper = digits(1 - (1 - F)^exp(spread)), at_risk = found$n.risk[, 1]))
  }
}
save(expected, "competing")

# rotterdam: death in 30-day months; entry is made up.
months <- with(rotterdam, data.frame(
  entry_day = as.integer((pid %% 5) * 6), day = as.integer(ceiling(dtime / 30)), event = death, size = factor(size, levels = c("<=20", "20-50", ">50")),
  meno = ifelse(meno == 1, "post", "pre"), hormon = ifelse(hormon == 1, "yes", "no"), grade = as.character(grade)))
save(counts(months), "rotterdam")
late <- months[months$day > months$entry_day, ]

fit <- survfit(Surv(day, event) ~ hormon, data = months)
restricted <- NULL
for (tau in c(12, 60, 120)) {
  found <- survival:::survmean(fit, rmean = tau)$matrix
  restricted <- rbind(restricted, data.frame(
    hormon = c("no", "yes"), tau, mean = digits(found[, "rmean"]), se = digits(found[, "se(rmean)"])))
}
save(restricted, "restricted_means")

fit <- survfit(Surv(entry_day, day, event) ~ 1, data = late, conf.type = "log-log")
found <- summary(fit, times = c(3, 12, 24, 60, 120, 200))
save(with(found, data.frame(day = time, estimate = digits(surv), se = digits(std.err), lower = digits(lower),
                            upper = digits(upper), at_risk = n.risk)), "delayed_entry")

few <- late[seq(1, nrow(late), 60), ]  # "exact" tries every set of people
save(counts(few), "few_late")
test <- function(name, fit) data.frame(name, statistic = digits(fit$chisq), df = length(fit$n) - 1)
stratified <- survdiff(Surv(day, event) ~ size + strata(grade), data = months)
save(rbind(
  test("hormon", survdiff(Surv(day, event) ~ hormon, data = months)),
  test("size", survdiff(Surv(day, event) ~ size, data = months)),
  data.frame(name = "size within grade", statistic = digits(stratified$chisq), df = 2),
  data.frame(name = "size after late entry", df = 2, statistic = digits(
    coxph(Surv(entry_day, day, event) ~ size, data = few, ties = "exact")$score))), "log_rank")

cox <- NULL; zph <- NULL
add <- function(name, fit, test) {
  cox <<- rbind(cox, data.frame(name, term = names(coef(fit)), coefficient = digits(coef(fit)),
                                se = digits(sqrt(diag(vcov(fit)))), log_likelihood = digits(fit$loglik[2])))
  if (test) for (transform in c("km", "identity")) {
    found <- cox.zph(fit, transform = transform, terms = FALSE)$table
    zph <<- rbind(zph, data.frame(name, transform, term = rownames(found), chisq = digits(found[, "chisq"]),
                                  df = found[, "df"]))
  }
}
control <- coxph.control(eps = 1e-12, toler.chol = 1e-13, iter.max = 50)
for (data in c("months", "late")) for (ties in c("efron", "breslow")) for (strata in c("", " + strata(grade)")) {
  left <- if (data == "late") "Surv(entry_day, day, event)" else "Surv(day, event)"
  formula <- as.formula(paste0(left, " ~ size + meno + hormon", strata))
  fit <- eval(bquote(coxph(.(formula), data = .(as.name(data)), ties = .(ties), control = control)))
  add(paste0(data, " ", ties, strata), fit, ties == "efron")
}
save(cox, "cox")
save(zph, "proportional_hazards")
weighted <- transform(months, weight = 0.5 + (seq_len(nrow(months)) %% 7) / 4)[seq(1, nrow(months), 7), ]
weighted$id <- seq_len(nrow(weighted))
fit <- coxph(Surv(day, event) ~ meno + hormon, data = weighted, weights = weight, robust = TRUE, cluster = id,
             control = control)
save(weighted[, c("day", "event", "meno", "hormon", "weight")], "weighted")
save(data.frame(term = names(coef(fit)), coefficient = digits(coef(fit)), se = digits(sqrt(diag(vcov(fit))))),
     "weighted_cox")

# hormon as if it were a treatment: who is without.
months$untreated <- as.integer(months$hormon == "no")
fit <- glm(untreated ~ size + meno + grade, binomial, data = months, control = glm.control(epsilon = 1e-14, maxit = 50))
save(data.frame(term = names(coef(fit)), coefficient = digits(coef(fit)), se = digits(sqrt(diag(vcov(fit))))), "logistic")
risks <- NULL; first <- NULL
for (level in c("<=20", "20-50", ">50")) {
  X <- model.matrix(fit$formula, transform(months, size = factor(level, levels = levels(months$size))))
  X <- X[, names(coef(fit))]
  p <- plogis(drop(X %*% coef(fit))); r <- mean(p); J <- colMeans(p * (1 - p) * X)
  if (is.null(first)) first <- list(r = r, J = J)
  se <- function(J) sqrt(drop(J %*% vcov(fit) %*% J))
  risks <- rbind(risks, data.frame(level, risk = digits(r), se = digits(se(J)), difference = digits(r - first$r),
    se_difference = digits(se(J - first$J)), ratio = digits(r / first$r), se_log_ratio = digits(se(J / r - first$J / first$r))))
}
save(risks, "standardised_risks")
