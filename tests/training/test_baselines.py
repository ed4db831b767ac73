"""Every baseline against loops written from its paper's formulas, closed forms, a library, or data of known answer."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from duch.codes import binarize
from duch.errors import CodesError, DuchError, InputError
from duch_training.baselines import BASELINES, FeatureHasher
from duch_training.baselines.cca import RIDGES, choose_ridge, fit_cca
from duch_training.baselines.djsrh import DJSRHLoss, fit_djsrh
from duch_training.baselines.hyperplanes import fit_hyperplanes, random_hyperplanes
from duch_training.baselines.itq import fit_itq, fit_rotation, quantization_error, random_rotation
from duch_training.baselines.jdsh import JDSHLoss, SimilarityDistribution, fit_distribution, fit_jdsh
from duch_training.baselines.training import SGDSettings, scaled_unit_features, train_heads

FEW_EPOCHS = SGDSettings(width=32, epochs=20)
QUICK = {name: {"settings": FEW_EPOCHS} if name in ("djsrh", "jdsh") else {} for name in BASELINES}


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def correlated_pairs(n=200, d_i=12, d_t=9, seed=0):
    """Three latent causes that both modalities see, through matrices and noise of their own."""
    cause = gaussian(n, 3, seed=seed) * torch.tensor([3.0, 1.5, 0.7])
    image = cause @ gaussian(3, d_i, seed=seed + 1) + gaussian(n, d_i, seed=seed + 2)
    text = cause @ gaussian(3, d_t, seed=seed + 3) + gaussian(n, d_t, seed=seed + 4)
    return image, text


def clusters(n=96, seed=0):
    """Pairs of two kinds; a kind has a centre of its own in each modality."""
    kind = torch.arange(n) % 2
    image = gaussian(2, 24, seed=100)[kind] * 3 + gaussian(n, 24, seed=seed)
    text = gaussian(2, 20, seed=101)[kind] * 3 + gaussian(n, 20, seed=seed + 1)
    return image, text, kind


def batch(m=10, b=16):
    """Codes and unit features of a batch."""
    image, text = scaled_unit_features(gaussian(m, 20, seed=3).abs(), gaussian(m, 15, seed=4))
    return torch.tanh(gaussian(m, b, seed=1)), torch.tanh(gaussian(m, b, seed=2)), image, text


def cosine(u, v):
    return float(u @ v) / (float(u.norm()) * float(v.norm()))


# All of them


@pytest.mark.parametrize("name", BASELINES)
def test_pairs_of_one_kind_get_nearer_codes_than_pairs_of_two_across_modalities(name):
    image, text, _ = clusters()
    hasher: FeatureHasher = BASELINES[name](image, text, n_bits=16, seed=0, **QUICK[name])
    image, text, kind = clusters(seed=50)  # unseen
    a, b = binarize(hasher.relax_image_features(image)), binarize(hasher.relax_text_features(text))
    distance = (a[:, None] != b[None, :]).sum(2)
    same = (kind[:, None] == kind[None, :]).numpy()
    assert a.shape == b.shape == (96, 16)
    # Half a bit: two kinds differ in one canonical component, so one sign of `cca` tells them apart and 15 are noise.
    assert distance[same].mean() + 0.5 < distance[~same].mean()


@pytest.mark.slow
@pytest.mark.parametrize("name", BASELINES)
def test_a_seed_gives_the_same_codes_again_and_leaves_the_global_generator_alone(name):
    image, text, _ = clusters()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, second = (BASELINES[name](image, text, n_bits=16, seed=5, **QUICK[name]) for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.relax_image_features(image), second.relax_image_features(image))
    assert torch.equal(first.relax_text_features(text), second.relax_text_features(text))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(BASELINES) - {"cca"}))
def test_another_seed_gives_other_codes(name):
    image, text, _ = clusters()
    first, second = (BASELINES[name](image, text, n_bits=16, seed=seed, **QUICK[name]) for seed in (5, 6))
    assert not torch.equal(first.relax_image_features(image), second.relax_image_features(image))


@pytest.mark.parametrize("name", BASELINES)
def test_features_that_cannot_be_fitted_are_told_in_one_line(name):
    image, text, _ = clusters()
    broken = image.clone()
    broken[3, 1], broken[8, 0] = torch.nan, torch.inf
    for bad_image, bad_text, told in (
        (broken, text, "2 of 96 rows of image features"),
        (image, text[:-1], r"\(96, 24\) came with text features of shape \(95, 20\)"),
        (image[:1], text[:1], "2 pairs or more"),
        (image[0], text[0], "two matrices"),
        (image, torch.ones_like(text), "all 96 rows of text features are the same"),
    ):
        with pytest.raises(InputError, match=told) as error:
            BASELINES[name](bad_image, bad_text, n_bits=16, seed=0)
        assert "\n" not in str(error.value)
    with pytest.raises(CodesError, match="n_bits is 12"):
        BASELINES[name](image, text, n_bits=12, seed=0)


@pytest.mark.parametrize("name", BASELINES)
def test_a_feature_that_never_varies_harms_nothing(name):
    image, text, _ = clusters()
    text[:, 4] = 0.0
    hasher = BASELINES[name](image, text, n_bits=16, seed=0, **QUICK[name])
    assert hasher.relax_text_features(text).isfinite().all()


# CCA


def test_cca_equals_the_generalised_eigenproblem_of_scipy():
    linalg = pytest.importorskip("scipy.linalg")
    image, text = correlated_pairs()
    x, y = (np.asarray(v - v.mean(0), dtype=float) for v in (image, text))
    ridge, (d_i, d_t) = 0.3, (x.shape[1], y.shape[1])
    joint = np.concatenate([x, y], 1).T @ np.concatenate([x, y], 1) / len(x)
    own = np.zeros_like(joint)
    for part in (slice(0, d_i), slice(d_i, None)):
        block = joint[part, part] + ridge * np.trace(joint[part, part]) / len(joint[part, part]) * np.eye(
            d_i if part.start == 0 else d_t
        )
        own[part, part] = block
        joint[part, part] = block
    values, vectors = linalg.eigh(joint, own)  # values 1 + correlation, 1, 1 - correlation
    cca = fit_cca(image, text, ridge=ridge, weight_power=0)
    np.testing.assert_allclose(cca.correlations, values[::-1][:d_t] - 1, atol=1e-5)
    for j in range(3):
        for matrix, part in ((cca.space.image_matrix, slice(0, d_i)), (cca.space.text_matrix, slice(d_i, None))):
            assert abs(cosine(matrix[:, j].double(), torch.from_numpy(vectors[part, -1 - j].copy()))) > 1 - 1e-6


def test_cca_without_a_ridge_equals_scikit_learn():
    library = pytest.importorskip("sklearn.cross_decomposition")
    image, text = correlated_pairs()
    reference = library.CCA(n_components=3, max_iter=5000, tol=1e-10).fit(image.numpy(), text.numpy())
    a, b = reference.transform(image.numpy(), text.numpy())
    cca = fit_cca(image, text, ridge=0.0, weight_power=0, n_components=3)
    ours, theirs = cca.space.relax_image_features(image), cca.space.relax_text_features(text)
    for j in range(3):
        correlation = np.corrcoef(a[:, j], b[:, j])[0, 1]
        assert float(cca.correlations[j]) == pytest.approx(correlation, abs=1e-3)
        assert np.corrcoef(ours[:, j], theirs[:, j])[0, 1] == pytest.approx(correlation, abs=1e-3)


def test_components_without_a_ridge_are_uncorrelated_and_of_unit_variance():
    image, text = correlated_pairs()
    space = fit_cca(image, text, ridge=0.0, weight_power=0).space
    for components in (space.relax_image_features(image), space.relax_text_features(text)):
        covariance = components.T @ components / len(components)
        torch.testing.assert_close(covariance, torch.eye(9), atol=1e-4, rtol=0)


def test_weights_are_powers_of_the_correlations():
    image, text = correlated_pairs()
    plain, weighted = (fit_cca(image, text, ridge=0.5, weight_power=p) for p in (0, 4))
    expected = plain.space.relax_text_features(text) * plain.correlations**4
    torch.testing.assert_close(weighted.space.relax_text_features(text), expected, atol=1e-5, rtol=1e-4)


def test_the_chosen_ridge_puts_partners_of_unseen_pairs_nearest():
    image, text = correlated_pairs(n=50, d_i=30, d_t=20)
    ranks = {}
    for ridge in RIDGES:
        ranks[ridge] = 0.0
        for fold in range(5):
            seen = [j for j in range(50) if j % 5 != fold]
            space = fit_cca(image[seen], text[seen], ridge=ridge).space
            a, b = space.relax_image_features(image[fold::5]), space.relax_text_features(text[fold::5])
            for j in range(10):
                ranks[ridge] += sum(cosine(a[j], b[k]) > cosine(a[j], b[j]) for k in range(10))
                ranks[ridge] += sum(cosine(a[k], b[j]) > cosine(a[j], b[j]) for k in range(10))
    assert len(set(ranks.values())) > 2
    assert ranks[choose_ridge(image, text)] == min(ranks.values())


def test_a_handful_of_pairs_is_too_few_to_choose_a_ridge_by():
    assert choose_ridge(*correlated_pairs(n=6)) == 1.0


@pytest.mark.parametrize("name", ["cca", "itq"])
def test_more_bits_than_components_are_refused(name):
    image, text, _ = clusters()
    with pytest.raises(InputError, match="have 20 canonical components; wanted 24"):
        BASELINES[name](image, text, n_bits=24, seed=0)


# Hyperplanes


def test_two_vectors_differ_in_a_bit_with_probability_angle_over_pi():
    planes = random_hyperplanes(5, 40_000, seed=0)
    u = torch.tensor([1.0, 0, 0, 0, 0])
    for degrees in (10, 60, 90, 150):
        v = torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), 0, 0, 0])
        differing = ((u @ planes > 0) != (3 * v @ planes > 0)).float().mean()
        assert float(differing) == pytest.approx(degrees / 180, abs=0.01)


def test_hyperplane_codes_measure_the_angle_between_modalities_in_the_cca_space():
    image, text = correlated_pairs()
    hasher = fit_hyperplanes(image, text, n_bits=4096, seed=0, ridge=0.5)
    space = fit_cca(image, text, ridge=0.5).space
    a, b = F.normalize(space.relax_image_features(image)), F.normalize(space.relax_text_features(text))
    angles = torch.arccos((a * b).sum(1).clamp(-1, 1)) / math.pi
    bits_a, bits_b = binarize(hasher.relax_image_features(image)), binarize(hasher.relax_text_features(text))
    np.testing.assert_allclose((bits_a != bits_b).mean(1), angles, atol=0.04)


# ITQ


def test_the_rotation_is_orthogonal_and_no_round_raises_the_quantization_error():
    vectors = gaussian(300, 16).double() * torch.linspace(3, 0.1, 16)
    errors = []
    for rounds in range(0, 50, 7):
        rotation = fit_rotation(vectors, seed=1, rounds=rounds)
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(16, dtype=torch.float64))
        errors.append(quantization_error(vectors, rotation))
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(errors))
    assert errors[-1] < errors[0] - 0.1
    assert errors[0] == quantization_error(vectors, random_rotation(16, seed=1))


def test_quantization_error_equals_a_loop():
    vectors, rotation = gaussian(20, 8).double(), random_rotation(8, seed=0)
    expected = 0.0
    for row in vectors:
        rotated = row @ rotation
        expected += sum((float(value) - (1 if value >= 0 else -1)) ** 2 for value in rotated)
    assert quantization_error(vectors, rotation) == pytest.approx(expected / 20)


def test_the_corners_of_a_turned_cube_are_found_again():
    corners = (torch.randint(0, 2, (500, 8), generator=torch.Generator().manual_seed(0)) * 2 - 1).double()
    turned = corners @ random_rotation(8, seed=3).T
    # Iterations stop in local minima now and then, so one of a few starts must find it exactly.
    errors = [quantization_error(turned, fit_rotation(turned, seed=seed)) for seed in range(5)]
    assert min(errors) < 1e-12
    assert min(errors) < quantization_error(turned, random_rotation(8, seed=9)) / 100


def test_itq_turns_the_cca_space_and_changes_no_distance_in_it():
    image, text, _ = clusters()
    hasher, space = fit_itq(image, text, n_bits=16, seed=0, ridge=1.0), fit_cca(image, text, n_components=16, ridge=1.0)
    before, after = space.space.relax_image_features(image), hasher.relax_image_features(image)
    torch.testing.assert_close(torch.cdist(after, after), torch.cdist(before, before), atol=1e-3, rtol=1e-3)


# DJSRH and JDSH


def slow_mse(a, b, target):
    m = len(a)
    return sum((cosine(a[r], b[s]) - target[r][s]) ** 2 for r in range(m) for s in range(m)) / m**2


def test_djsrh_equals_a_loop_written_from_the_paper():
    codes_i, codes_t, image, text = batch()
    m, beta, eta, mu = len(image), 0.6, 0.4, 1.5
    joint = [
        [
            beta * (2 * cosine(image[r], image[s]) - 1) + (1 - beta) * (2 * cosine(text[r], text[s]) - 1)
            for s in range(m)
        ]
        for r in range(m)
    ]
    target = [
        [mu * ((1 - eta) * joint[r][s] + eta * sum(joint[r][k] * joint[s][k] for k in range(m)) / m) for s in range(m)]
        for r in range(m)
    ]
    expected = slow_mse(codes_i, codes_t, target)
    expected += 0.1 * slow_mse(codes_i, codes_i, target) + 0.1 * slow_mse(codes_t, codes_t, target)
    assert DJSRHLoss()(codes_i, codes_t, image, text).item() == pytest.approx(expected, rel=1e-5)


def test_jdsh_equals_a_loop_written_from_the_paper():
    codes_i, codes_t, image, text = batch()
    m = len(image)
    # Narrow enough for all three decisions to be taken in a batch of ten.
    known = SimilarityDistribution(mode=-0.3, left_scale=0.1, right_scale=0.05, low=-1.2, high=0.8)
    s_i = [[2 * cosine(image[r], image[s]) - 1 for s in range(m)] for r in range(m)]
    s_t = [[2 * cosine(text[r], text[s]) - 1 for s in range(m)] for r in range(m)]
    rows_i, rows_t = torch.tensor(s_i), torch.tensor(s_t)
    target, decisions = [[0.0] * m for _ in range(m)], set()
    for r in range(m):
        for s in range(m):
            crossed = (cosine(rows_i[r], rows_t[s]) + cosine(rows_i[s], rows_t[r])) / 2
            value = 0.4 * s_i[r][s] + 0.3 * s_t[r][s] + 0.3 * crossed
            weight, decision = 1.0, "undecided"
            if value < -0.3 - 2 * 0.1:
                weight, decision = 1 + 0.3 * math.exp(-(value - -1.2)), "dissimilar"
            elif value > -0.3 + 4 * 0.05:
                weight, decision = 1 + 0.3 * math.exp(value - 0.8), "similar"
            target[r][s] = 1.5 * weight * value
            decisions.add(decision)
    assert decisions == {"dissimilar", "undecided", "similar"}
    expected = slow_mse(codes_i, codes_t, target) + slow_mse(codes_t, codes_i, target)
    expected -= sum(cosine(codes_i[j], codes_t[j]) for j in range(m)) / m
    expected += 0.1 * slow_mse(codes_i, codes_i, target) + 0.1 * slow_mse(codes_t, codes_t, target)
    assert JDSHLoss(known)(codes_i, codes_t, image, text).item() == pytest.approx(expected, rel=1e-5)


def test_the_distribution_of_a_known_mixture_is_found():
    generator = np.random.default_rng(0)
    left = -np.abs(generator.normal(0, 0.2, 60_000))
    right = generator.exponential(0.1, 40_000)
    found = SimilarityDistribution.fit(torch.from_numpy(np.concatenate([left, right]) - 0.4).float())
    assert found.mode == pytest.approx(-0.4, abs=0.03)
    assert found.left_scale == pytest.approx(0.2, rel=0.1)
    assert found.right_scale == pytest.approx(0.1, rel=0.2)
    assert (found.low, found.high) == pytest.approx((left.min() - 0.4, right.max() - 0.4))


def test_the_distribution_is_of_different_pairs_only():
    image, text, _ = clusters()
    found = fit_distribution(image, text, batch_size=32, seed=0)
    assert -2 < found.low < found.mode < found.high < 1
    assert found.left_scale > 0
    assert found.right_scale > 0


@pytest.mark.slow
@pytest.mark.parametrize("fit", [fit_djsrh, fit_jdsh])
def test_fewer_pairs_than_a_batch_are_one_batch(fit):
    image, text, _ = clusters(n=20)
    hasher = fit(image, text, n_bits=8, seed=0, settings=FEW_EPOCHS)
    assert hasher.relax_image_features(image).isfinite().all()


@pytest.mark.slow
def test_training_lowers_the_objective_and_leaves_heads_that_need_no_gradient():
    image, text, _ = clusters()
    units = scaled_unit_features(image, text)

    def after(epochs):
        settings = SGDSettings(width=32, epochs=epochs)
        heads = train_heads(image, text, DJSRHLoss(), n_bits=16, seed=0, settings=settings)
        codes = heads.relax_image_features(image), heads.relax_text_features(text)
        assert not codes[0].requires_grad
        assert not heads.training
        return DJSRHLoss()(*codes, *units).item()

    assert after(30) < 0.5 * after(0)


def test_a_loss_that_is_no_number_is_told():
    image, text, _ = clusters()

    class Broken(torch.nn.Module):
        def forward(self, image_codes, text_codes, image_unit, text_unit):
            return (image_codes + text_codes).sum() * torch.nan

    with pytest.raises(DuchError, match="the loss is nan"):
        train_heads(image, text, Broken(), n_bits=8, seed=0, settings=SGDSettings(width=8, epochs=1))
